// Node's http server, calling out with http.get. Argument: the port. With later=N in the query, it first waits N milliseconds.
'use strict';
const http = require('http');

// The default since Node 19; Debian 12 has 18.
const agent = new http.Agent({ keepAlive: true });

function get(url) {
  return new Promise((resolve, reject) => {
    http.get(url, { agent }, (answer) => {
      let body = '';
      answer.setEncoding('utf8');
      answer.on('data', (piece) => { body += piece; });
      answer.on('end', () => resolve(`${answer.statusCode} ${body}`));
    }).on('error', reject);
  });
}

http.createServer(async (request, response) => {
  const asked = new URL(request.url, 'http://localhost');
  let received = 0;
  for await (const piece of request) received += piece.length;
  if (asked.pathname.startsWith('/stream')) {
    // no length known beforehand: chunks
    for (let n = 0; n < 5; n++) {
      response.write(`piece ${n}\n`);
      await new Promise((resolve) => { setTimeout(resolve, 10); });
    }
    response.end(`${received} bytes came\n`);
    return;
  }
  try {
    const later = asked.searchParams.get('later');
    if (later) await new Promise((resolve) => { setTimeout(resolve, Number(later)); });
    let body = `${asked.pathname}\n`;
    for (const url of asked.searchParams.getAll('url')) body += await get(url);
    response.end(body);
  } catch (error) {
    response.statusCode = 502;
    response.end(`${error.code}\n`);
  }
}).listen(Number(process.argv[2]), '127.0.0.1');
