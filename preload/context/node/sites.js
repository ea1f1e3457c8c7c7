// sites.js - where in the program is this call made? Beside adapter.js, in the same script.
//
//   at    words[at...] is struct node_site: of the call that is made in this very moment
//   heat  words[heat] is 0 while no destination is hot; words[heat + n] is how many of the next calls to those of number n are noted
//   all   every call is noted
//
// Where a request is written no function of the program is on the stack any more: that was where it was made. To note the stack there costs some
// microseconds, so it is done for destinations to which a call was slow or failed lately: C makes them hot. It is put into words as the request is
// written, which is when C takes it, for a call that then will probably be slow. What is noted hangs on the request (or on the socket, until it connects).
//
// What Error has for the program (stackTraceLimit, prepareStackTrace) is ours for the moment in which no function of the program's runs, and as
// it was then. If they are not plain values, nothing is noted.
(function sites(words, at, heat, all, tools) {
  'use strict';
  const { require, ownerOf, subscribe } = tools;
  const { getOwnPropertyDescriptor, defineProperty, isExtensible, apply } = Reflect;
  const { Error, Date: { now } } = globalThis;
  const { captureStackTrace } = Error;
  const { Buffer } = require('buffer');
  const { fileURLToPath } = require('url');
  const { ClientRequest } = require('http');
  if (!Function.prototype.toString.call(captureStackTrace).includes('[native code]')) return {};

  const FRAMES = 64; // noted; those of Node itself, some twenty in fetch, among them
  const NUMBERS = 256; // of destinations, as many as struct node_slot has
  const A_SECOND = 100; // noted; C does not say more of them
  const HEAD = 6; // words before the text
  const ROOM = 968; // bytes of text
  const bytes = Buffer.from(words.buffer, words.byteOffset + (at + HEAD) * 4, ROOM);

  // ---- destinations

  const numbers = new Map();
  let next = 0;
  function numberOf(destination) {
    let number = numbers.get(destination);
    if (number === undefined) {
      if (numbers.size >= 4 * NUMBERS) numbers.clear();
      number = 1 + (next++ % NUMBERS);
      numbers.set(destination, number);
    }
    return number;
  }

  let cold = 0;
  function isHot(number) {
    if (words[heat] === 0) return false;
    if (all) return true;
    if (words[heat + number] > 0) {
      words[heat + number]--;
      return true;
    }
    if (++cold % NUMBERS === 0) {
      let n = 1;
      while (n <= NUMBERS && words[heat + n] === 0) n++;
      if (n > NUMBERS) words[heat] = 0;
    }
    return false;
  }

  // ---- stacks

  const stacks = new WeakMap(); // request, or socket that connects: an object that has its stack, or a site in words

  let second = 0;
  let left = 0;
  function mayNote() {
    if (all) return true;
    const current = Math.trunc(now() / 1000);
    if (current !== second) {
      second = current;
      left = A_SECOND;
    }
    return left > 0 && left-- > 0;
  }

  function withProperty(name, value, action) {
    const error = getOwnPropertyDescriptor(globalThis, 'Error');
    if (!error || error.value !== Error) return;
    const property = getOwnPropertyDescriptor(Error, name);
    if (property ? !property.writable : !isExtensible(Error)) return;
    Error[name] = value;
    try {
      action();
    } finally {
      if (property) Error[name] = property.value;
      else delete Error[name];
    }
  }

  function note(owner) {
    if (!mayNote()) return;
    const holder = {};
    withProperty('stackTraceLimit', FRAMES, () => captureStackTrace(holder, note));
    if (Object.hasOwn(holder, 'stack')) stacks.set(owner, { holder }); // a look at it would have it formatted
  }

  // ---- words

  const isNodes = (file) => file.startsWith('node:') || file === 'otshim';
  const isPrograms = (file) => !file.includes('/node_modules/') && !file.startsWith('wasm:');
  const clean = (text) => text.replace(/[\0-\x1f\x7f]/g, '?');

  function pathOf(file) {
    if (!file.startsWith('file://')) return file;
    return file.includes('%') ? fileURLToPath(file) : file.slice('file://'.length);
  }

  // V8's line: "async Upstream.fetch [as get] (/srv/app.js:12:5)". What has no name of its own has none.
  function functionOf(line, file) {
    const end = line.indexOf(` (${file}`);
    if (end < 0) return '';
    const name = line.slice(0, end).replace(/^(?:async |new )+/, '').replace(/ \[as .*\]$/, '').replace(/^Object\./, '');
    return name.endsWith('<anonymous>') ? '' : name;
  }

  function inWords(frames) {
    const lines = [];
    let mine = -1;
    let line = 0;
    let name = '';
    let file = '';
    for (const frame of frames) {
      const source = frame.getScriptNameOrSourceURL();
      const known = typeof source === 'string' && source !== '';
      if (known ? isNodes(source) : lines.length === 0) continue; // a Promise's constructor, say, that Node called
      const text = `${frame}`;
      if (mine < 0 && known && isPrograms(source)) {
        mine = lines.length;
        line = frame.getLineNumber() || 0;
        name = clean(functionOf(text, source));
        file = clean(pathOf(source));
      }
      lines.push(`    at ${clean(text)}`);
    }
    // Whole lines, the program's innermost among them.
    let room = ROOM - Buffer.byteLength(name) - Buffer.byteLength(file);
    const sizes = lines.map((text) => Buffer.byteLength(text) + 1);
    let from = 0;
    for (let inner = sizes.slice(0, mine + 1).reduce((sum, size) => sum + size, 0); from < mine && inner > room; from++) inner -= sizes[from];
    let to = from;
    while (to < lines.length && sizes[to] <= room) room -= sizes[to++];
    const stack = lines.slice(from, to).join('\n');
    return { line, name, file, stack, text: stack + name + file };
  }

  function describe(noted) {
    if (noted.holder === undefined) return noted;
    let site;
    const { holder } = noted;
    withProperty('prepareStackTrace', (error, frames) => {
      if (error === holder) site = inWords(frames);
      return '';
    }, () => holder.stack);
    return site;
  }

  function put(site) {
    const [name, file, stack] = [site.name, site.file, site.stack].map((text) => Buffer.byteLength(text));
    if (name + file + stack > ROOM) return;
    bytes.write(site.text);
    [site.line, stack, name, file].forEach((value, i) => { words[at + 1 + i] = value; });
  }

  // True: words[at] says something; he who asked sets it to 0 after the call.
  function place(number, owner, keep) {
    for (let i = 1; i <= 4; i++) words[at + i] = 0;
    const noted = stacks.get(owner);
    if (noted !== undefined) {
      stacks.delete(owner);
      const site = describe(noted);
      if (site !== undefined) put(site);
      if (site !== undefined && keep) stacks.set(owner, site);
    }
    words[at] = number;
    return true;
  }

  // ---- http

  const destinationOf = (request) => request.getHeader('host') || request.host;

  function asked({ request }) {
    if (words[heat] !== 0 && isHot(numberOf(destinationOf(request)))) note(request);
  }

  if (ClientRequest.toString().includes('onClientRequestCreatedChannel')) {
    subscribe('http.client.request.created', asked);
  } else {
    // Before 22 none of the channels is asked while the program's own function is on the stack.
    const property = getOwnPropertyDescriptor(ClientRequest.prototype, '_implicitHeader');
    const native = property.value;
    property.value = {
      _implicitHeader() {
        try {
          asked({ request: this });
        } catch { /* this call has no site, then */ }
        return apply(native, this, arguments);
      },
    }._implicitHeader;
    defineProperty(ClientRequest.prototype, '_implicitHeader', property);
  }

  // ---- undici

  const sent = new WeakMap(); // handle: the request whose head is the next that is written

  function careful(action) {
    return (handle, args) => {
      try {
        return action(handle, args);
      } catch {
        return false;
      }
    };
  }

  return {
    // The socket is made where the program asks for a call; to where it will connect, that is not known yet.
    connects(socket) {
      if (words[heat] !== 0) note(socket);
    },
    connecting: careful((handle, args) => {
      const socket = ownerOf(handle);
      const number = numberOf(`${args[1]} ${args[2]}`);
      if (socket && isHot(number)) return place(number, socket, true);
      if (socket) stacks.delete(socket);
      return place(number);
    }),
    writing: careful((handle) => {
      const socket = ownerOf(handle);
      if (!socket) return false;
      const message = socket._httpMessage;
      if (message) return message instanceof ClientRequest && place(numberOf(destinationOf(message)), message);
      const request = sent.get(handle);
      if (request === undefined) return false;
      sent.delete(handle);
      return place(numberOf(`${request.origin}`), request);
    }),
    // of undici
    made(request) {
      if (words[heat] !== 0 && isHot(numberOf(`${request.origin}`))) note(request);
    },
    sends(request, handle) {
      sent.set(handle, request);
    },
  };
})
