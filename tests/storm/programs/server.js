// Node's http server, or Express on it, or two processes of it. Arguments: the port; http, express or cluster.
//
//   get        http.get without an agent's help: a connection for each call; made as soon as the request is there
//   timer      the same after a timer
//   agent      an agent that keeps its connections, after a timer
//   immediate  setImmediate and a few promises, then the agent
//   all        all calls at once, after a timer
//   queue      an agent of four connections, which hands each one that is free to whoever waits
//   fetch      fetch (undici), which keeps its connections
//   pool       fetch by an agent of four connections and a queue
//   pipelined  fetch by an agent of two connections, on which it sends several requests at once
//   axios, undici, clients     the packages: axios; undici's own agent; undici's pool of four connections, used from a burst on
//   dns        the leaf by name: libuv's thread pool looks it up
//   file       reads a file first: libuv's thread pool again
//   worker     each call is made by a worker thread that all requests share
//   late       the calls are made after the response
'use strict';
const cluster = require('cluster');
const fs = require('fs');
const http = require('http');
const { Worker, isMainThread, parentPort } = require('worker_threads');

const port = Number(process.env.LEAF_PORT);
const agent = new http.Agent({ keepAlive: true });
const few = new http.Agent({ keepAlive: true, maxSockets: 4 });
const none = new http.Agent({ keepAlive: false });
const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, Math.random() * ms); });

function get(path, ms, options) {
  return new Promise((resolve, reject) => {
    http.get({ host: '127.0.0.1', port, path: `${path}?ms=${ms}`, ...options }, (answer) => {
      let body = '';
      answer.setEncoding('utf8');
      answer.on('data', (piece) => { body += piece; });
      answer.on('end', () => resolve(body));
    }).on('error', reject);
  });
}

// the worker thread, and who waits for which of its answers
const questions = new Map();
let worker = null;
function ask(question) {
  if (!worker) {
    worker = new Worker(__filename);
    worker.unref();
    worker.on('message', ({ id, body }) => { questions.get(id)(body); questions.delete(id); });
  }
  const id = questions.size ? Math.max(...questions.keys()) + 1 : 0;
  worker.postMessage({ id, ...question });
  return new Promise((resolve) => { questions.set(id, resolve); });
}

// Node's own undici gives away its Agent once it has been used.
const dispatchers = new Map();
async function limited(path, ms, options) {
  const key = JSON.stringify(options);
  if (!dispatchers.has(key)) {
    await fetch(`http://127.0.0.1:${port}/`).catch(() => {});
    const [one, two] = [1, 2].map((version) => globalThis[Symbol.for(`undici.globalDispatcher.${version}`)]);
    const Agent = (two || one).constructor;
    if (!dispatchers.has(key)) dispatchers.set(key, new Agent(options));
  }
  await sleep(ms);
  return (await fetch(`http://127.0.0.1:${port}${path}?ms=${ms}`, { dispatcher: dispatchers.get(key) })).text();
}

const pools = [];
async function pooled(path, ms) {
  const { Pool } = require('undici');
  if (!pools.length) pools.push(new Pool(`http://127.0.0.1:${port}`, { connections: 4, pipelining: 2 }));
  return (await pools[0].request({ method: 'GET', path: `${path}?ms=${ms}` })).body.text();
}

const ways = {
  get: (path, ms) => get(path, ms, { agent: none }),
  timer: async (path, ms) => { await sleep(ms); return get(path, ms, { agent: none }); },
  agent: async (path, ms) => { await sleep(ms); return get(path, ms, { agent }); },
  immediate: async (path, ms) => {
    await new Promise((resolve) => { setImmediate(resolve); });
    await null;
    return get(path, ms, { agent });
  },
  queue: async (path, ms) => { await sleep(ms); return get(path, ms, { agent: few }); },
  pool: (path, ms) => limited(path, ms, { connections: 4 }),
  pipelined: (path, ms) => limited(path, ms, { connections: 2, pipelining: 4 }),
  axios: async (path, ms) => (await require('axios').get(`http://127.0.0.1:${port}${path}?ms=${ms}`)).data,
  undici: async (path, ms) => { await sleep(ms); return (await require('undici').request(`http://127.0.0.1:${port}${path}?ms=${ms}`)).body.text(); },
  clients: pooled,
  fetch: async (path, ms) => { await sleep(ms); return (await fetch(`http://127.0.0.1:${port}${path}?ms=${ms}`)).text(); },
  dns: (path, ms) => get(path, ms, { host: 'localhost', family: 4, agent: none }),
  worker: (path, ms) => ask({ path, ms }),
  file: async (path, ms) => { await fs.promises.readFile(__filename); return get(path, ms, { agent: none }); },
};
ways.all = ways.timer;
ways.late = ways.timer;

async function one(kind, path, ms) {
  const body = await ways[kind](path, ms);
  if (body.trim() !== path) throw new Error(`asked for ${path}, got ${body}`);
}

async function work(kind, ident, calls, ms) {
  const numbers = [...Array(calls).keys()];
  if (kind === 'all') return Promise.all(numbers.map((n) => one(kind, `/${ident}/${n}`, ms)));
  for (const n of numbers) await one(kind, `/${ident}/${n}`, ms);
}

async function handle(request, response) {
  const asked = new URL(request.url, 'http://localhost');
  const [, kind, ident] = asked.pathname.split('/');
  const calls = Number(asked.searchParams.get('calls'));
  const ms = Number(asked.searchParams.get('ms'));
  try {
    if (kind === 'late') {
      response.end(`${ident}\n`);
      await work(kind, ident, calls, ms);
    } else {
      await work(kind, ident, calls, ms);
      response.end(`${ident}\n`);
    }
  } catch (error) {
    response.statusCode = 502;
    response.end(`${error}\n`);
  }
}

function serve() {
  // calls that no request asked for: each is a root
  let polls = 0;
  setInterval(() => {
    const ident = `p${String(polls++).padStart(6, '0')}`;
    get(`/${ident}/0`, 1, { agent: none }).catch(() => {});
  }, 20);
  if (process.argv[3] === 'express') {
    const app = require('express')();
    app.get('/:kind/:ident', (request, response) => { handle(request, response); });
    app.listen(Number(process.argv[2]), '127.0.0.1', 511);
  } else {
    http.createServer(handle).listen(Number(process.argv[2]), '127.0.0.1', 511);
  }
}

if (!isMainThread) {
  parentPort.on('message', async ({ id, path, ms }) => {
    parentPort.postMessage({ id, body: await get(path, ms, { agent }).catch(String) });
  });
} else if (process.argv[3] === 'cluster' && cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
} else {
  serve();
}
