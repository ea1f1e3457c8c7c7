// What a program of Node's can see of itself, while it serves a request: printed, to be compared with and without the library. It answers one
// request of its own and ends. Argument: how to end: exit, throw, reject, later.
'use strict';
const http = require('http');
const net = require('net');
const { AsyncLocalStorage } = require('async_hooks');

const own = (object) => Reflect.ownKeys(object).map(String).sort().join();
const functions = (object) => Reflect.ownKeys(object).sort((a, b) => (String(a) < String(b) ? -1 : 1)).map((key) => {
  const property = Reflect.getOwnPropertyDescriptor(object, key);
  const { value } = property;
  const kind = typeof value === 'function' ? `${value.name}/${value.length}` : typeof value;
  return `${String(key)}: ${kind} ${property.enumerable}${property.configurable}${property.writable}`;
}).join('\n');

function tell(request) {
  const env = Object.entries(process.env).filter(([name]) => !/^(LD_PRELOAD|OTSHIM_.*|OTEL_.*|_)$/.test(name));
  const handle = Object.getPrototypeOf(request.socket._handle);
  const facts = {
    env: env.map((pair) => pair.join('=')).sort(),
    arguments: [process.execArgv, process.argv],
    globals: own(globalThis),
    process: own(process),
    server: [own(server), functions(http.Server.prototype), functions(net.Socket.prototype)],
    handle: [functions(handle), functions(Object.getPrototypeOf(handle))],
    request: [own(request), own(request.socket), own(request.socket.parser)],
    listeners: process.eventNames().map((name) => `${String(name)} ${process.listenerCount(name)}`),
    handles: process._getActiveHandles().map((found) => found.constructor.name),
    heap: Math.round(require('v8').getHeapStatistics().heap_size_limit / 1e7),
    options: [process.env.NODE_OPTIONS, globalThis.required],
    evaluates: (() => { try { return eval('1 + 1'); } catch (error) { return error.message; } })(),
    stack: new Error('here').stack,
    store: storage.getStore(),
  };
  console.log(JSON.stringify(facts, null, 1).replaceAll(`:${server.address().port}`, ':PORT'));
}

const storage = new AsyncLocalStorage();
const ends = {
  exit: () => process.exit(3),
  throw: () => { throw new Error('thrown in a handler'); },
  reject: () => { Promise.reject(new Error('rejected in a handler')); },
  later: () => setTimeout(() => { null.property; }, 1),
};

const server = http.createServer((request, response) => {
  storage.run('a store of its own', () => tell(request));
  response.end('answer\n');
  response.on('finish', ends[process.argv[2]]);
  if (process.argv[2] === 'throw') ends.throw();
});
server.listen(0, '127.0.0.1', () => {
  http.get({ port: server.address().port, host: '127.0.0.1', agent: false }, (answer) => answer.resume()).on('error', () => {});
});
