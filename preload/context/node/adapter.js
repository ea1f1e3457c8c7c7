// adapter.js - what otshim runs in a thread of Node.js that serves requests (why: node.h).
//
//   words    Uint32Array over struct node_slot: [0] 1 while the context in words[now...] is the one that the thread works for
//   ask(fd)  true: the context of the request that is being answered on this connection lies in words[asked...]
//   site, heat, mode      of sites.js; mode 0: calls have no sites, 1: some have, 2: all
//   lookup(name, begins)  this name is about to be looked up, for whom words[now...] says; or is not, after all. Without arguments: not all are told
//
// True: it is in place. It throws nothing at the program, changes no object that programs make themselves, and puts no frame of its own
// between a server and its handlers (so that stack traces stay what they are): handlers are reached by a diagnostics channel.
//
// How a request's context gets to where its calls are made is Node's own affair. Where Node needs help:
//
//   AsyncContextFrame (24 and later)   a connection's parser keeps the context in which it was made, so what it calls for a request's body would
//                                      have none: it takes over the request's (asyncReset), as the agent does for its sockets
//   undici (fetch)                     a client writes a queued request where the one before it has ended: by whom it was made is noted when
//                                      it is made, and said right before its head is written
//   undici's pools                     dispatch a queued request in the context of another's end: again in the context of its first dispatch
(function adapter(words, now, asked, size, site, heat, mode, ask, lookup) {
  'use strict';
  const { apply, getPrototypeOf, getOwnPropertyDescriptor, defineProperty } = Reflect;

  // process.binding() says that it is deprecated to those who want to hear of it (--pending-deprecation): once, so not to us. Where it remembers a
  // warning that was not wanted as one that was given (18), and under the permission model, we go without.
  function quietly(action) {
    const text = Function.prototype.toString.call(process.binding);
    if (!text.startsWith('function deprecated(')) return action();
    if (!text.includes('process.noDeprecation')) throw new Error('process.binding() would warn');
    const property = getOwnPropertyDescriptor(process, 'noDeprecation');
    process.noDeprecation = true;
    try {
      return action();
    } finally {
      if (property) defineProperty(process, 'noDeprecation', property);
      else delete process.noDeprecation;
    }
  }

  function binding(name) {
    try {
      return quietly(() => process.binding(name));
    } catch {
      return {};
    }
  }

  // Without options and without a file there is no `require`: it is asked of whom has one. The last, which is how the console of DevTools gets
  // its own, is for ES modules before 20.16.
  function builtins() {
    if (typeof process.getBuiltinModule === 'function') return (name) => process.getBuiltinModule(name);
    if (process.mainModule) return (name) => process.mainModule.require(name);
    const key = Symbol.for('otshim');
    let found;
    globalThis[key] = (require) => { found = require; };
    try {
      const console = new (binding('inspector').Connection)(() => {});
      const params = { expression: "globalThis[Symbol.for('otshim')](require)", includeCommandLineAPI: true };
      console.dispatch(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params }));
      console.disconnect();
    } finally {
      delete globalThis[key];
    }
    return found;
  }

  const require = builtins();
  const { AsyncLocalStorage } = require('async_hooks');
  const channels = require('diagnostics_channel');
  const storage = new AsyncLocalStorage();
  const nobody = {};
  const frames = AsyncLocalStorage.prototype.enterWith.toString().includes('AsyncContextFrame');

  // A subscriber that throws would end the program.
  const subscribe = (name, subscriber) => {
    const careful = (message) => {
      try {
        subscriber(message);
      } catch { /* this call has no parent, then */ }
    };
    if (channels.subscribe) channels.subscribe(name, careful);
    else channels.channel(name).subscribe(careful);
  };

  // The object of JavaScript to which a handle belongs.
  let owner;
  function ownerOf(handle) {
    if (owner === undefined) owner = Object.getOwnPropertySymbols(handle).find((symbol) => symbol.description === 'owner_symbol');
    return owner === undefined ? undefined : handle[owner];
  }

  let where = {};
  if (mode !== 0) {
    try {
      where = sites(words, site, heat, mode === 2, { require, ownerOf, subscribe });
    } catch { /* calls have no sites, then */ }
  }

  // ---- for whom is this native call made?

  // Handles of which it is said beforehand: for whom the next write is, and nobody once that has been made.
  const announced = new WeakMap();

  function whose(handle) {
    const owner = announced.get(handle);
    if (owner === undefined) return storage.getStore();
    announced.set(handle, nobody);
    return owner === nobody ? undefined : owner;
  }

  function push(store) {
    for (let i = 0; i < size; i++) words[now + i] = store[i];
    words[0] = 1;
  }

  // In place of prototype[name], and as alike as can be.
  function wrap(prototype, name, find, place) {
    const property = prototype && getOwnPropertyDescriptor(prototype, name);
    const native = property && property.value;
    if (typeof native !== 'function') return;
    const wrapped = {
      [name]() {
        const store = find(this);
        const placed = place !== undefined && place(this, arguments);
        if (store === undefined && !placed) return apply(native, this, arguments);
        if (store !== undefined) push(store);
        try {
          return apply(native, this, arguments);
        } finally {
          words[0] = 0;
          words[site] = 0;
        }
      },
    }[name];
    defineProperty(wrapped, 'length', { value: native.length, configurable: true });
    property.value = wrapped;
    defineProperty(prototype, name, property);
  }

  const prototypeOf = (name, type) => {
    const found = binding(name)[type];
    return found && found.prototype;
  };

  // A socket that is told to connect has its handle at once, and does nothing with it while the name is looked up.
  function prototypeOfSocket() {
    const socket = new (require('net').Socket)();
    socket.connect({ host: 'otshim', port: 1, lookup() {} });
    const handle = socket._handle;
    socket._handle = null; // not by destroy(), which would make the program's standard streams
    handle.close();
    return getPrototypeOf(handle);
  }

  const current = () => storage.getStore();
  const unasked = new WeakSet(); // sockets that connect for nobody knows whom
  function connects(handle) {
    return unasked.has(ownerOf(handle)) ? undefined : storage.getStore();
  }
  const tcp = prototypeOf('tcp_wrap', 'TCP') || prototypeOfSocket();
  const stream = getPrototypeOf(tcp);
  wrap(tcp, 'connect', connects, where.connecting);
  wrap(tcp, 'connect6', connects, where.connecting);
  wrap(prototypeOf('pipe_wrap', 'Pipe'), 'connect', current);
  for (const prototype of [stream, prototypeOf('tls_wrap', 'TLSWrap')]) {
    for (const name of ['writev', 'writeBuffer', 'writeUtf8String', 'writeAsciiString', 'writeLatin1String', 'writeUcs2String']) wrap(prototype, name, whose, where.writing);
  }
  wrap(prototypeOf('process_wrap', 'Process'), 'spawn', current);
  wrap(binding('spawn_sync'), 'spawn', current);

  // Names are looked up by other threads. dns.lookup() takes the function from the binding at each call, dns.promises once for all when it is loaded;
  // and a program's worker threads, which look up names too, have no adapter.
  const names = binding('cares_wrap');
  const loaded = (name) => process.moduleLoadList.includes(`NativeModule ${name}`);
  if (typeof names.getaddrinfo === 'function' && !loaded('internal/dns/promises')) {
    const native = names.getaddrinfo;
    names.getaddrinfo = function getaddrinfo(request, name) {
      if (loaded('worker_threads')) lookup();
      const store = storage.getStore();
      if (store !== undefined) push(store);
      try {
        lookup(name, true);
      } finally {
        words[0] = 0;
      }
      const error = apply(native, this, arguments);
      if (error !== 0) lookup(name, false);
      return error;
    };
  } else {
    lookup();
  }

  // ---- requests

  function contextOf(socket) {
    const fd = socket._handle ? socket._handle.fd : -1;
    if (!(fd >= 0) || !ask(fd)) return undefined;
    const store = new Uint32Array(size);
    for (let i = 0; i < size; i++) store[i] = words[asked + i];
    return store;
  }

  subscribe('http.server.request.start', ({ socket }) => {
    let store;
    try {
      store = contextOf(socket);
    } finally {
      storage.enterWith(store); // in any case: what is there is of the connection's last request
    }
    if (frames && socket.parser) socket.parser.asyncReset(socket.parser);
  });

  // An upgrade is not announced on a channel. Only servers that want upgrades get an emit() of their own.
  const { Server } = require('http');
  subscribe('net.server.socket', ({ socket }) => {
    const { server } = socket;
    if (!(server instanceof Server) || Object.hasOwn(server, 'emit')) return;
    if (server.listenerCount('upgrade') + server.listenerCount('connect') === 0) return;
    const emit = server.emit;
    const value = {
      emit(event, request, connection) {
        if (event !== 'upgrade' && event !== 'connect') return apply(emit, this, arguments);
        return storage.run(contextOf(connection), () => apply(emit, this, arguments));
      },
    }.emit;
    defineProperty(server, 'emit', { value, writable: true, enumerable: false, configurable: true });
  });

  // ---- undici

  const makers = new WeakMap(); // request: for whom it was made
  const askers = new WeakMap(); // a dispatch's handler: for whom it was dispatched first
  let dispatching = 0;
  let again = false; // what is dispatched now was so before: who asked for it is not on the stack
  let first = true;
  let opening = false;
  let doubtful = false;

  function dispatchAs(dispatcher, handler, dispatch) {
    const known = handler !== null && typeof handler === 'object';
    let owner = known ? askers.get(handler) : undefined;
    if (owner === undefined) {
      // A client's "drain" is what a pool waits for, to give it what is in its queue: of that we have missed who put it there.
      const queued = dispatching === 0 && dispatcher.listenerCount('drain') > 0;
      owner = (queued ? undefined : storage.getStore()) || nobody;
      if (known) askers.set(handler, owner);
      if (dispatching === 0) again = queued;
    } else if (dispatching === 0) {
      again = true;
    }
    dispatching++;
    try {
      const store = owner === nobody ? undefined : owner;
      return store === storage.getStore() ? dispatch() : storage.run(store, dispatch);
    } finally {
      dispatching--;
      if (dispatching === 0) again = false;
    }
  }

  const wrapped = new WeakSet();
  function wrapDispatcher(dispatcher) {
    while (dispatcher && !Object.hasOwn(dispatcher, 'dispatch')) dispatcher = getPrototypeOf(dispatcher);
    // Agent, Pool and Client inherit it. A class that dispatches in its own way stands above one that does not.
    if (!dispatcher || wrapped.has(dispatcher)) return;
    wrapped.add(dispatcher);
    const property = getOwnPropertyDescriptor(dispatcher, 'dispatch');
    const native = property.value;
    if (typeof native !== 'function' || !property.writable) return;
    property.value = {
      dispatch(options, handler) { return dispatchAs(this, handler, () => apply(native, this, arguments)); },
    }.dispatch;
    defineProperty(dispatcher, 'dispatch', property);
  }

  // There is more than one undici: Node's own, which fetch uses, and packages. The first to be used is found by the global dispatcher, the others by
  // their connections; until then nobody knows for whom they make requests.
  subscribe('undici:request:create', ({ request }) => {
    makers.set(request, dispatching > 0 || first ? storage.getStore() : undefined);
    if (where.made && (dispatching > 0 || first) && !again) where.made(request);
    if (!first) return;
    first = false;
    opening = true;
    for (const version of [1, 2]) wrapDispatcher(globalThis[Symbol.for(`undici.globalDispatcher.${version}`)]);
  });
  // A client that connects again for what is in its queue does so where the connection before was closed: for whom, it does not say. (The first
  // connection of all is made in a dispatch that was not wrapped yet.)
  subscribe('undici:client:beforeConnect', ({ connectParams }) => {
    doubtful = dispatching === 0 && !opening && connectParams.protocol === 'http:';
    opening = false;
    if (doubtful) queueMicrotask(() => { doubtful = false; });
  });
  subscribe('net.client.socket', ({ socket }) => {
    if (doubtful) unasked.add(socket);
    else if (where.connects && !again) where.connects(socket);
    doubtful = false;
  });
  subscribe('undici:client:sendHeaders', ({ request, socket }) => {
    if (socket._handle) announced.set(socket._handle, makers.get(request) || nobody);
    if (socket._handle && where.sends) where.sends(request, socket._handle);
    if (dispatching > 0) return;
    for (const symbol of Object.getOwnPropertySymbols(socket)) {
      if (symbol.description === 'client') wrapDispatcher(socket[symbol]);
    }
  });
  return true;
})
//# sourceURL=otshim
