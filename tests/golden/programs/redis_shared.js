// Requests that share one connection to Redis: each gives its command to a queue, which is sent whole once the loop comes round, as node-redis 5 does it.
'use strict';
const http = require('http');
const net = require('net');

const queue = [], waiting = [];
let scheduled = false, answers = '';
const redis = net.connect(Number(process.argv[4]), '127.0.0.1');

redis.on('data', (data) => {
  answers += data;
  for (let end = answers.indexOf('\r\n'); end >= 0; end = answers.indexOf('\r\n')) {
    waiting.shift()(answers.slice(0, end));
    answers = answers.slice(end + 2);
  }
});

function flush() {
  scheduled = false;
  redis.write(queue.splice(0).join(''));
}

function incr(key) {
  return new Promise((resolve) => {
    queue.push(`*2\r\n$4\r\nINCR\r\n$${key.length}\r\n${key}\r\n`);
    waiting.push(resolve);
    if (!scheduled) setImmediate(flush);
    scheduled = true;
  });
}

const server = http.createServer(async (request, response) => {
  const key = request.url.slice(1);
  await incr(key);
  response.end((await incr(key)) + '\n');
});
redis.on('connect', () => server.listen(Number(process.argv[2]), '127.0.0.1'));
