<?php
// Makes its call, then the worker gets a SIGKILL.
file_get_contents($_GET['url']);
shell_exec("kill -9 " . getmypid());
