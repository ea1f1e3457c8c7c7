# A stand-in for Puma, and what programs may do to it: each case prints what it sees, which must be the same with the library as without.
#
#   ruby cases.rb            the names of the cases, one a line; with "+" after those in which the library has something to watch
#   ruby cases.rb CASE
#
# The last line on standard error is the number of TracePoints that there are.
require 'socket'
require 'timeout'

# Which methods the library watches, and how Puma uses them: one worker's thread, one connection after the other.
module Stand
  SOURCE = <<~'RUBY'
    module Puma
      module Const
        PUMA_VERSION = '5.6.5'.freeze
      end

      class Client
        def initialize(io)
          @to_io = @io = io
        end

        def finish(_timeout)
          @to_io.readpartial(4096) until @ready ||= true
        end
        attr_reader :to_io
      end

      class Server
        def process_client(client)
          client.finish(30)
          yield client
        rescue IOError => e
          "rescued #{e.class}"
        ensure
          client.to_io.close
        end
      end
    end
  RUBY

  def self.define
    TOPLEVEL_BINDING.eval(SOURCE, 'stand.rb', 1)
  end

  def self.listen
    TCPServer.new('127.0.0.1', 0)
  end

  # What the block makes of one request. Accepts as Puma does, without blocking.
  def self.serve(server, &block)
    peer = TCPSocket.new('127.0.0.1', server.addr[1])
    peer.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    server.wait_readable(10)
    client = Puma::Client.new(server.accept_nonblock)
    Puma::Server.new.process_client(client, &block)
  ensure
    peer&.close
  end

  def self.run
    define
    yield listen if block_given?
  end

  def self.watched(name)
    WATCHED << name
    name
  end
  WATCHED = []
end

def show(what)
  puts what.inspect.gsub(/0x\h+/, '0x')
end

def try
  yield
rescue Exception => e # rubocop:disable Lint/RescueException
  "#{e.class}: #{e.message} #{e.backtrace&.map { |l| l[%r{[^/]*\z}] }}"
end

CASES = {}

def watched(name, &block)
  CASES[name] = block
  Stand.watched(name)
end

def unwatched(name, &block)
  CASES[name] = block
end

watched(:requests) do
  Stand.run { |server| 3.times { show(Stand.serve(server) { |client| client.to_io.readpartial(5) }) } }
end

watched(:the_ways_out) do
  Stand.run do |server|
    show(try { Stand.serve(server) { raise IOError } })
    show(try { Stand.serve(server) { raise 'out' } })
    show(catch(:ball) { Stand.serve(server) { throw :ball, 1 } })
    show([1, 2].each { |n| break Stand.serve(server) { n } })
    show(try { Stand.serve(server) { raise NoMemoryError } })
    show(Thread.new { Stand.serve(server) { Thread.exit } }.value)
    thread = Thread.new { Stand.serve(server) { sleep } }
    sleep(0.01) until thread.stop?
    show(thread.kill.join(10).class)
    show(try { Timeout.timeout(0.05) { Stand.serve(server) { sleep } } }[/\A[\w:]+/])
    deep = ->(n) { deep.call(n + 1) }
    show(try { Stand.serve(server) { deep.call(0) } }[/\A\w+/])
    show(Stand.serve(server) { Fiber.new { Fiber.yield(caller.size) }.resume })
    show(try { Stand.serve(server) { caller(0) } }.map { |l| l[%r{[^/]*\z}] })
  end
end

watched(:a_client_without_a_descriptor) do
  Stand.run do |server|
    [nil, 1, Object.new, IO.new(1).tap { |io| io.autoclose = false }, StringIO, File.open(File::NULL).tap(&:close)].each do |io|
      show(try { Puma::Client.new(io).finish(1) })
    end
    show($!)
    show(Stand.serve(server) { 1 })
  end
end

watched(:the_programs_own_trace) do
  Stand.run do |server|
    events = []
    trace = TracePoint.new(:call, :return, :raise) { |tp| events << [tp.event, tp.method_id, tp.lineno] if tp.path == 'stand.rb' }
    trace.enable { show(try { Stand.serve(server) { raise 'seen' } }) }
    one = TracePoint.new(:call) { |tp| events << [tp.event, tp.method_id] }
    one.enable(target: Puma::Client.instance_method(:finish)) { Stand.serve(server) { 1 } }
    show(events)
    set_trace_func(proc { |event, file, line, *| events << [event, line] if file == 'stand.rb' })
    Stand.serve(server) { 2 }
    set_trace_func(nil)
    show(events)
  end
end

watched(:webrick) do
  require 'webrick'
  require 'net/http'
  server = WEBrick::HTTPServer.new(BindAddress: '127.0.0.1', Port: 0, AccessLog: [], Logger: WEBrick::Log.new(File::NULL))
  server.mount_proc('/') do |request, response|
    raise 'as it was asked to' if request.path == '/fail'

    response.body = "#{request.path} #{fork { exit!(3) }.then { |pid| Process.wait(pid) && $?.exitstatus }}"
  end
  thread = Thread.new { server.start }
  Net::HTTP.start('127.0.0.1', server.config[:Port]) do |http|
    %w[/one /fail /two].each { |path| show([http.get(path).code, http.get(path).body[/\A[^<]*/]]) }
  end
  server.shutdown
  show(thread.join(10).class)
end

watched(:methods_that_come_later) do
  Stand.run do |server|
    Puma::Server.prepend(Module.new { def process_client(client) = "before #{super}" })
    show(Stand.serve(server) { 1 })
    Puma::Client.class_eval { def finish(_timeout) = @ready = true }
    show(Stand.serve(server) { 2 })
    show(Puma::Server.ancestors.size)
  end
end

watched(:frozen_private_and_prepended) do
  Stand.run
  Puma::Server.send(:private, :process_client)
  Puma::Client.prepend(Module.new { def finish(timeout) = super })
  [Puma, Puma::Server, Puma::Client].each(&:freeze)
  server = Stand.listen
  show(try { Puma::Server.new.process_client(1) }[/\A\w+/])
  show(Puma::Server.new.send(:process_client, Puma::Client.new(server)) { 3 })
end

watched(:it_is_loaded_after_the_first_listen) do
  first = Stand.listen
  Stand.define
  show(Stand.serve(first) { 1 })
end

watched(:the_error_that_is_being_handled) do
  Stand.run
  begin
    raise 'first'
  rescue RuntimeError
    server = Stand.listen
    show($!)
  end
  show($!)
  show(Stand.serve(server) { 1 })
end

watched(:forks) do
  Stand.run do |server|
    reader, writer = IO.pipe
    show(Stand.serve(server) do |client|
      pid = fork do
        writer.write(client.to_io.readpartial(3))
        exit!(7)
      end
      Process.wait(pid)
      [$?.exitstatus, reader.readpartial(10)]
    end)
    pid = fork { exit!(Stand.serve(Stand.listen) { 9 }) }
    Process.wait(pid)
    show($?.exitstatus)
  end
end

watched(:garbage_is_collected_all_the_time) do
  Stand.define
  GC.stress = true
  server = Stand.listen
  shown = Array.new(3) { |n| Stand.serve(server) { n } }
  GC.stress = false
  show(shown)
  GC.compact if GC.respond_to?(:compact)
  show(Stand.serve(server) { 4 })
end

# Somewhere around the first listen() of a fresh process, which is where the library calls Ruby: it comes once, and nothing is lost.
watched(:interrupts_on_their_way) do
  results = Array.new(150) do |n|
    pid = fork do
      Stand.define
      main = Thread.current
      came = 0
      begin
        Thread.new { sleep(n / 1e6) && main.raise(Interrupt, 'now') }
        Stand.listen
        sleep(10)
      rescue Interrupt
        came += 1
      end
      exit!(came == 1 && Stand.serve(Stand.listen) { 5 } == 5 ? 7 : 8)
    end
    Process.wait(pid)
    $?.exitstatus
  end
  show(results.tally)
  Stand.run { |server| show(Stand.serve(server) { 1 }) }
end

watched(:a_signal_on_its_way) do
  Stand.define
  came = 0
  trap('USR1') { came += 1 }
  50.times do |n|
    Process.kill('USR1', Process.pid)
    Stand.listen.close
    sleep(0.001) until came > n
  end
  show(came)
end

unwatched(:no_puma) do
  server = Stand.listen
  peer = TCPSocket.new('127.0.0.1', server.addr[1])
  server.accept.close
  show(peer.read)
end

unwatched(:not_a_module) do
  Object.const_set(:Puma, 1)
  show(Stand.listen.class)
end

unwatched(:not_classes) do
  Object.const_set(:Puma, Module.new)
  Puma.const_set(:Server, nil)
  Puma.const_set(:Client, 'x')
  show(Stand.listen.class)
end

unwatched(:to_be_loaded_when_needed) do
  Object.const_set(:Puma, Module.new)
  Puma.autoload(:Server, './there_is_no_such_file')
  Puma.autoload(:Client, './there_is_no_such_file')
  show(Stand.listen.class)
  show(Puma.autoload?(:Server))
end

unwatched(:other_methods) do
  Object.const_set(:Puma, Module.new)
  Puma.const_set(:Server, Class.new)
  Puma.const_set(:Client, Class.new)
  3.times { show(Stand.listen.class) }
  show($!)
end

unwatched(:methods_in_c) do
  Object.const_set(:Puma, Module.new)
  Puma.const_set(:Server, Class.new { alias_method :process_client, :dup })
  Puma.const_set(:Client, Class.new { attr_reader :finish })
  3.times { show(Stand.listen.class) }
  show($!)
end

unwatched(:one_method_in_c) do
  Stand.define
  Puma::Client.class_eval { attr_reader :finish }
  show(Stand.listen.class)
  show(try { Puma::Server.new.process_client(1) { 2 } }[/\A\w+/])
end

unwatched(:what_the_process_is) do
  show(ENV.keys.sort - %w[LD_PRELOAD OTSHIM_SOCKET])
  show([$PROGRAM_NAME, ARGV, $-w, $-v, $DEBUG, $LOAD_PATH, global_variables.sort, Object.constants.sort, Thread.list.size])
  show($LOADED_FEATURES)
  show(Signal.trap('TERM', 'DEFAULT'))
end

if ARGV.empty?
  CASES.each_key { |name| puts "#{name}#{'+' if Stand::WATCHED.include?(name)}" }
else
  $stdout.sync = true
  require 'stringio'
  CASES.fetch(ARGV[0].to_sym).call
  warn(ObjectSpace.each_object(TracePoint).count)
end
