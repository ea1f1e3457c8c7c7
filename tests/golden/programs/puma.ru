# A Rack application for Puma, calling out with Net::HTTP.
require 'net/http'

run(lambda do |env|
  urls = URI.decode_www_form(env['QUERY_STRING'].to_s).filter_map { |name, value| value if name == 'url' }
  answers = urls.map do |url|
    answer = Net::HTTP.get_response(URI(url))
    "#{answer.code} #{answer.body}"
  end
  [200, { 'content-type' => 'text/plain' }, ["#{env['PATH_INFO']}\n#{answers.join}"]]
end)
