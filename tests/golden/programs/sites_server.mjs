// Node's http server, whose handlers call out from functions that the tests know by name. /KIND?url=U; arguments: the port, a library in
// node_modules, "own" for a program that has its own idea of stacks, and a directory of packages.
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const { byRequire } = require('./sites_required.cjs');
const library = process.argv[3] ? require(process.argv[3]) : undefined;

const packages = process.argv[5] ? createRequire(`${process.argv[5]}/`) : undefined;

const agent = new http.Agent({ keepAlive: true });

function byGet(url, done) {
  const request = http.get(url, { agent, family: 4 }, (answer) => { answer.resume().on('end', done); }); // here: byGet
  request.on('error', done);
}

class Upstream {
  async ask(url) {
    await sleep(1);
    return (await fetch(url)).text(); // here: Upstream.ask
  }
}

async function posts(url) {
  await sleep(1);
  const text = await fetch(url, { method: 'POST', body: 'x'.repeat(1000) }); // here: posts
  return text.text();
}

async function waits(url) {
  await library.byGet(url); // here: waits
}

// Of undici's pool, in which the second has to wait for the first.
let pool;
async function inLine(url) {
  const { body } = await pool.request({ path: `${url.pathname}${url.search}`, method: 'GET' }); // here: inLine
  return body.text();
}
async function behindIt(url) {
  const { body } = await pool.request({ path: `${url.pathname}${url.search}&behind`, method: 'GET' }); // here: behindIt
  return body.text();
}
function both(url) {
  pool ??= new (packages('undici').Pool)(url.origin, { connections: 1 });
  return Promise.all([inLine(url), behindIt(url)]);
}

async function byAxios(url) {
  await packages('axios').get(url); // here: byAxios
}

const own = { calls: 0, limit: 3, prepare: undefined };
if (process.argv[4] === 'own') {
  own.prepare = (error, frames) => {
    own.calls++;
    return `own: ${frames.length}`;
  };
  Error.prepareStackTrace = own.prepare;
  Error.stackTraceLimit = own.limit;
}

// What the program finds where it looks at its errors.
function errors() {
  const calls = own.calls;
  const stack = String(new Error('mine').stack);
  return {
    calls,
    more: own.calls - calls,
    first: stack.split('\n').slice(0, 1),
    lines: stack.split('\n').length,
    limit: Object.getOwnPropertyDescriptor(Error, 'stackTraceLimit'),
    same: own.prepare === undefined || Error.prepareStackTrace === own.prepare,
    names: Object.getOwnPropertyNames(Error),
  };
}

const kinds = {
  get: (url) => new Promise((resolve) => { byGet(url, resolve); }),
  nameless: (url) => new Promise((resolve) => { http.get(url, (answer) => { answer.resume().on('end', resolve); }); }), // here: nameless
  required: byRequire,
  fetch: (url) => new Upstream().ask(url),
  posts,
  axios: byAxios,
  both: (url) => both(new URL(url)),
  waits,
  async library(url) {
    library.later(url);
    await sleep(300);
  },
};

const server = http.createServer(async (request, response) => {
  const asked = new URL(request.url, 'http://localhost');
  const kind = asked.pathname.slice(1);
  try {
    if (kind !== 'errors') await kinds[kind](asked.searchParams.get('url'));
    response.end(JSON.stringify(errors()));
  } catch (error) {
    response.end(String(error));
  }
});
server.listen(Number(process.argv[2]), '127.0.0.1');
