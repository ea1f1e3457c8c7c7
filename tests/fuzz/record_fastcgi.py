#!/usr/bin/env python3
"""Records what nginx, Apache, PHP-FPM and fcgiwrap really say to each other, as seeds for fuzz_preload_fastcgi and input of its unit test.

    BUILD=build build/venv/bin/python tests/fuzz/record_fastcgi.py      writes tests/fuzz/corpus/fuzz_preload_fastcgi/recorded-*

A relay stands between server and program; nothing runs under the library. To be run again when these programs change."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "golden"))

import lab as laboratory
import programs
from relay import Relay, save_to

laboratory.BARE = True
save = save_to("fuzz_preload_fastcgi")


def main():
    lab = laboratory.Lab()
    try:
        php = lab.start(programs.php_fpm, "php", workers=2)
        relay = Relay(php.port)
        nginx = lab.start(programs.nginx_php, "nginx", to=f"127.0.0.1:{relay.port}")
        kept = lab.start(programs.nginx_php, "kept", to="php", http=f"upstream php {{ server 127.0.0.1:{relay.port}; keepalive 4; }}",
                         more="fastcgi_keep_conn on; fastcgi_param TOO_LONG_FOR_ONE_BYTE $http_long;")
        apache = lab.start(programs.apache_php_fpm, "apache", to=f"fcgi://127.0.0.1:{relay.port}")
        lab.get(nginx, "/answer.php?a=b", headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
        save("nginx-get", relay)
        lab.get(nginx, "/answer.php", method="POST", body=b"content", headers={"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"})
        save("nginx-post", relay)
        lab.get(nginx, "/answer.php", method="POST", body=b"0123456789" * 5000)
        save("nginx-post-large", relay)
        lab.get(nginx, "/answer.php?throw=1", status=500)
        save("nginx-throw", relay)
        lab.get(nginx, "/none.php", status=404, method="HEAD")
        save("nginx-head", relay)
        lab.get(kept, "/answer.php", headers={"Long": "l" * 300})
        lab.get(kept, "/answer.php?code=302", status=302)
        lab.get(kept, "/answer.php", method="POST", body=b"c" * 100)
        save("nginx-kept", relay)
        lab.get(apache, "/answer.php?x=y", headers={"User-Agent": "recorder"})
        save("apache-get", relay)
        lab.get(apache, "/answer.php", method="POST", body=b"content" * 3000)
        save("apache-post", relay)
        wrap = lab.start(programs.fcgiwrap, "wrap")
        through = Relay(wrap.port)
        cgi = lab.start(programs.nginx_cgi, "cgi", to=f"127.0.0.1:{through.port}")
        lab.get(cgi, "/answer.cgi?status=403", status=403)
        save("fcgiwrap", through)
    finally:
        lab.close()


main()
