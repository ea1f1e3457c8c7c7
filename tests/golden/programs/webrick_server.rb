# WEBrick (a thread a connection), calling out with Net::HTTP. Argument: the port.
require 'net/http'
require 'webrick'

server = WEBrick::HTTPServer.new(BindAddress: '127.0.0.1', Port: Integer(ARGV[0]), AccessLog: [],
                                 Logger: WEBrick::Log.new(File::NULL))
server.mount_proc('/') do |request, response|
  urls = URI.decode_www_form(request.query_string.to_s).filter_map { |name, value| value if name == 'url' }
  answers = urls.map do |url|
    answer = Net::HTTP.get_response(URI(url))
    "#{answer.code} #{answer.body}"
  end
  response.body = "#{request.path}\n#{answers.join}"
end
trap('TERM') { server.shutdown }
server.start
