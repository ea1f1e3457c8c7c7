# A Rack application for Puma, calling out with Net::HTTP: a connection for each call, or one that the thread keeps.
require_relative 'calls'

run(lambda do |env|
  [200, { 'content-type' => 'text/plain' }, [Calls.work("#{env['PATH_INFO']}?#{env['QUERY_STRING']}")]]
end)
