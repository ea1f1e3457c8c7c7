<?php
// Answers with code=N what it was sent: the content's size, and the traceparent as PHP sees it. throw=1: an exception that nobody catches.
// size=N: that many bytes more. late=URL: is called when the response has been sent (PHP-FPM).
if (isset($_GET['throw'])) {
    throw new RuntimeException('out of cheese');
}
http_response_code((int) ($_GET['code'] ?? 200));
echo strlen(file_get_contents('php://input')), ' ', strlen($_SERVER['HTTP_COOKIE'] ?? ''), ' ', $_SERVER['HTTP_TRACEPARENT'] ?? 'none', "\n";
echo str_repeat('x', (int) ($_GET['size'] ?? 0));
if (isset($_GET['late'])) {
    fastcgi_finish_request();
    usleep(20000);
    file_get_contents($_GET['late']);
}
