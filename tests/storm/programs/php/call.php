<?php
// /call.php/KIND/ID?calls=N&ms=N, by the curl extension or by file_get_contents; a curl handle may be kept for all calls of a process.
[, $kind, $ident] = explode('/', $_SERVER['PATH_INFO']);
$ms = (int) $_GET['ms'];
for ($number = 0; $number < (int) $_GET['calls']; $number++) {
    usleep(random_int(0, $ms * 1000));
    $path = "/$ident/$number";
    $url = 'http://127.0.0.1:' . getenv('LEAF_PORT') . "$path?ms=$ms";
    if ($kind === 'curl') {
        $curl = curl_init($url);
        curl_setopt($curl, CURLOPT_RETURNTRANSFER, true);
        $answer = curl_exec($curl);
        curl_close($curl);
    } else {
        $answer = file_get_contents($url);
    }
    if (trim((string) $answer) !== $path) {
        http_response_code(502);
        exit("asked for $path, got $answer");
    }
}
echo "$ident\n";
