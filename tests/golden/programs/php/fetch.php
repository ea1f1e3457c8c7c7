<?php
// Calls each url= of the query: by=curl with the curl extension, by=fopen with file_get_contents, by default with both in turn.
$by = $_GET['by'] ?? 'curl,fopen';
foreach (explode(',', $by) as $way) {
    $url = $_GET['url'] . '/' . $way;
    if ($way === 'curl') {
        $curl = curl_init($url);
        curl_setopt($curl, CURLOPT_RETURNTRANSFER, true);
        echo curl_exec($curl);
        curl_close($curl);
    } else {
        echo file_get_contents($url);
    }
}
