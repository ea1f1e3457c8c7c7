// An ES module as the main program: Node then has no `require` to give away. Arguments: server.js.
import './server.js';
