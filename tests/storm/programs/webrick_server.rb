# WEBrick: a thread for each connection. Argument: the port.
require 'webrick'
require_relative 'calls'

server = WEBrick::HTTPServer.new(BindAddress: '127.0.0.1', Port: Integer(ARGV[0]), AccessLog: [],
                                 Logger: WEBrick::Log.new(File::NULL), MaxClients: 300)
server.listeners.each { |listener| listener.listen(511) }
server.mount_proc('/') { |request, response| response.body = Calls.work(request.unparsed_uri) }
Calls.start_poller
trap('TERM') { server.shutdown }
server.start
