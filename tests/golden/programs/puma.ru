# A Rack application for Puma, calling out with Net::HTTP.
#
#   /fetch/...?url=   fetches each url
#   /fail/...?url=    raises after that
#   /late/...?url=    answers first, then fetches (rack.after_reply)
#   /shell/...?url=   lets a shell's curl fetch
#   /where            what a program can see of itself: tests/golden/test_ruby.py
require 'net/http'
require 'json'

fetch = lambda do |url|
  answer = Net::HTTP.get_response(URI(url))
  "#{answer.code} #{answer.body}"
end

where = lambda do
  server = Puma::Server
  {
    ancestors: [server, Puma::Client, Thread, Net::HTTP].map { |c| c.ancestors.map(&:to_s) },
    methods: [server, Puma::Client].map { |c| (c.instance_methods(false) + c.private_instance_methods(false)).sort },
    owners: %i[process_client handle_request].map { |m| server.instance_method(m).source_location },
    singleton: Thread.singleton_methods(false).sort,
    backtrace: caller(0),
    features: $LOADED_FEATURES.map(&:to_s),
    environment: ENV.keys.sort,
    command: [$PROGRAM_NAME, ARGV, $-w, Signal.list.size],
    globals: global_variables.sort,
    constants: Object.constants.sort,
    threads: Thread.list.map { |t| t.name.to_s }.sort
  }
end

run(lambda do |env|
  kind = env['PATH_INFO'].split('/')[1]
  urls = URI.decode_www_form(env['QUERY_STRING'].to_s).filter_map { |name, value| value if name == 'url' }
  answers =
    case kind
    when 'where' then [JSON.generate(where.call)]
    when 'late' then env['rack.after_reply'].push(-> { urls.each(&fetch) }) && []
    when 'shell' then urls.map { |url| `curl -sS '#{url}' | cat` }
    else urls.map(&fetch)
    end
  raise 'as it was asked to' if kind == 'fail'

  [200, { 'content-type' => 'text/plain' }, ["#{env['PATH_INFO']}\n#{answers.join}"]]
end)
