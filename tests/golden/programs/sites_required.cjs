// A module that is required, in the older style of events.
'use strict';
const http = require('http');

exports.byRequire = function byRequire(url) {
  return new Promise((resolve, reject) => {
    const request = http.request(url, (answer) => { answer.resume().on('end', resolve); });
    request.on('error', reject);
    request.end();
  });
};
