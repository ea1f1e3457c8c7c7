# async-http: a fiber for each connection, all on one thread. Arguments: the port.
#
#   fibers   Net::HTTP under the fiber scheduler
#   client   async-http's own client, whose connections go from fiber to fiber
require 'async'
require 'async/http/endpoint'
require 'async/http/internet'
require 'async/http/server'
require_relative 'calls'

LEAF = "http://127.0.0.1:#{Calls::PORT}".freeze

def Calls.fibers(path)
  close(path)
end

def Calls.client(path)
  @internet ||= Async::HTTP::Internet.new
  @internet.get(LEAF + path).read
end

endpoint = Async::HTTP::Endpoint.parse("http://127.0.0.1:#{ARGV[0]}")
Async do |task|
  server = Async::HTTP::Server.for(endpoint) do |request|
    Protocol::HTTP::Response[200, {}, [Calls.work(request.path)]]
  end
  task.async do
    (1..).each do |number|
      task.sleep(0.02)
      Calls.client(format('/p%06d/0?ms=1', number))
    rescue SystemCallError, IOError # the leaf is not there any more
      nil
    end
  end
  server.run
end
