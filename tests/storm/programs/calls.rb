# The ways in which the storm's Ruby servers call the leaf.
#
#   close    a connection for each call
#   kept     a connection that the thread keeps
#   thread   a Thread for each call
#   pool     each call on a thread of a pool, which is started inside the first such request
#   fork     each call by a forked child
#   spawn    each call by a curl that is started for it
#
# A poller makes calls that no request asked for.
require 'net/http'
require 'uri'

module Calls
  PORT = Integer(ENV.fetch('LEAF_PORT'))

  JOBS = Queue.new

  # The answer to /kind/ident?calls=N&ms=N
  def self.work(target)
    kind, *what = parse(target)
    all_calls(kind, *what)
    "#{what[0]}\n"
  end

  def self.parse(target)
    uri = URI(target)
    _, kind, ident = uri.path.split('/')
    query = URI.decode_www_form(uri.query).to_h.transform_values(&:to_i)
    [kind, ident, query['calls'], query['ms']]
  end

  def self.all_calls(kind, ident, calls, milliseconds)
    calls.times do |number|
      sleep(rand * milliseconds / 1000)
      path = "/#{ident}/#{number}"
      body = send(kind, "#{path}?ms=#{milliseconds}")
      raise "asked for #{path}, got #{body}" unless body.strip == path
    end
  end

  def self.close(path)
    Net::HTTP.start('127.0.0.1', PORT) { |http| http.get(path, 'Connection' => 'close').body }
  end

  def self.kept(path)
    http = (Thread.current[:http] ||= Net::HTTP.start('127.0.0.1', PORT))
    http.get(path).body
  end

  def self.thread(path)
    Thread.new { close(path) }.value
  end

  def self.pool(path)
    @pool ||= Array.new(4) { Thread.new { work_off } }
    answer = Queue.new
    JOBS << [path, answer]
    answer.pop
  end

  def self.work_off
    while (path, answer = JOBS.pop)
      answer << close(path)
    end
  end

  def self.fork(path)
    reader, writer = IO.pipe
    child = Process.fork do
      writer.write(close(path))
      writer.flush
      exit!(0)
    end
    writer.close
    reader.read
  ensure
    Process.wait(child)
    reader.close
  end

  def self.spawn(path)
    IO.popen(['curl', '-sS', "http://127.0.0.1:#{PORT}#{path}"], &:read)
  end

  def self.start_poller
    Thread.new do
      (1..).each do |number|
        sleep(0.02)
        close(format('/p%06d/0?ms=1', number))
      rescue SystemCallError, IOError # the leaf is not there any more
        nil
      end
    end
  end
end
