# A Rack application for Puma, which does what calls.rb says, and
#
#   late     the calls are made after the response (rack.after_reply)
require_relative 'calls'

Calls.start_poller

run(lambda do |env|
  target = "#{env['PATH_INFO']}?#{env['QUERY_STRING']}"
  kind, *what = Calls.parse(target)
  if kind == 'late'
    env['rack.after_reply'] << -> { Calls.all_calls('close', *what) }
    body = "#{what[0]}\n"
  else
    body = Calls.work(target)
  end
  [200, { 'content-type' => 'text/plain' }, [body]]
end)
