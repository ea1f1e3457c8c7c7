# The ways in which the storm's Ruby servers call the leaf.
#
#   close    a connection for each call
#   kept     a connection that the thread keeps
#   thread   a Thread for each call
require 'net/http'
require 'uri'

module Calls
  PORT = Integer(ENV.fetch('LEAF_PORT'))

  # The answer to /kind/ident?calls=N&ms=N
  def self.work(target)
    uri = URI(target)
    _, kind, ident = uri.path.split('/')
    query = URI.decode_www_form(uri.query).to_h.transform_values(&:to_i)
    query['calls'].times do |number|
      sleep(rand * query['ms'] / 1000)
      path = "/#{ident}/#{number}"
      body = send(kind, "#{path}?ms=#{query['ms']}")
      raise "asked for #{path}, got #{body}" unless body.strip == path
    end
    "#{ident}\n"
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
end
