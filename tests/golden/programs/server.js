// Node's http server, calling out. Arguments: the port; "thread" to serve from a worker thread. What is asked for is in the query:
//
//   url=U       call it, one after the other; the answers are the body
//   later=N     wait N milliseconds first
//   by=fetch    by fetch instead of http.get
//   events      after the request's body, which is read by events
//   /stream     chunks both ways      /child    which TRACEPARENT has a child process?       an upgrade   the call, then 101
'use strict';
const http = require('http');
const { execFile, execFileSync } = require('child_process');

// The default since Node 19; Debian 12 has 18.
const agent = new http.Agent({ keepAlive: true });

const ways = {
  get: (url) => new Promise((resolve, reject) => {
    http.get(url, { agent, family: 4 }, (answer) => {
      let body = '';
      answer.setEncoding('utf8');
      answer.on('data', (piece) => { body += piece; });
      answer.on('end', () => resolve(`${answer.statusCode} ${body}`));
    }).on('error', reject);
  }),
  fetch: async (url) => {
    const answer = await fetch(url);
    return `${answer.status} ${await answer.text()}`;
  },
};

async function call(asked) {
  const later = asked.searchParams.get('later');
  if (later) await new Promise((resolve) => { setTimeout(resolve, Number(later)); });
  let body = '';
  for (const url of asked.searchParams.getAll('url')) body += await ways[asked.searchParams.get('by') || 'get'](url);
  return body;
}

async function stream(request, response) {
  let received = 0;
  for await (const piece of request) received += piece.length;
  // no length known beforehand: chunks
  for (let n = 0; n < 5; n++) {
    response.write(`piece ${n}\n`);
    await new Promise((resolve) => { setTimeout(resolve, 10); });
  }
  response.end(`${received} bytes came\n`);
}

async function answer(asked, response) {
  try {
    const body = await call(asked);
    response.end(`${asked.pathname}\n${body}`);
  } catch (error) {
    response.statusCode = 502;
    response.end(`${(error.cause || error).code}\n`);
  }
}

function child(response) {
  const program = [process.execPath, ['-p', 'process.env.TRACEPARENT'], { env: { ...process.env, LD_PRELOAD: '' } }];
  execFile(...program, (error, output) => { response.end(`${error || output}${execFileSync(...program)}`); });
}

const server = http.createServer(async (request, response) => {
  const asked = new URL(request.url, 'http://localhost');
  if (asked.pathname.startsWith('/stream')) {
    stream(request, response);
  } else if (asked.pathname.startsWith('/child')) {
    child(response);
  } else if (asked.searchParams.has('events')) {
    request.on('data', () => {});
    request.on('end', () => { answer(asked, response); });
  } else {
    // eslint-disable-next-line no-unused-vars
    for await (const piece of request);
    answer(asked, response);
  }
});

function upgrade(request, socket) {
  call(new URL(request.url, 'http://localhost')).then(() => {
    socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n');
  });
}

if (process.argv[3] === 'thread') {
  const { Worker } = require('worker_threads');
  new Worker(__filename, { argv: [process.argv[2]] });
} else {
  server.on('upgrade', upgrade);
  server.listen(Number(process.argv[2]), '127.0.0.1');
}
