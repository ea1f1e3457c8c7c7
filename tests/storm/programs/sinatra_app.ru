# Sinatra on Puma: what calls.rb says.
require 'sinatra/base'
require_relative 'calls'

class App < Sinatra::Base
  set :environment, :production
  set :host_authorization, { permitted_hosts: [] }

  get '/:kind/:ident' do
    content_type 'text/plain'
    Calls.work("#{request.path_info}?#{request.query_string}")
  end
end

run App
