<?php
// Publishes a message: php publish.php CHANNEL TEXT
require __DIR__ . '/channelstream.php';

$url = getenv('CHANNELSTREAM_URL') ?: 'http://127.0.0.1:8000';
$secret = getenv('CHANNELSTREAM_SECRET') ?: 'secret';
$message = ['user' => 'php', 'channel' => $argv[1] ?? 'news', 'message' => ['text' => $argv[2] ?? 'Hello from PHP']];
echo json_encode(channelstream_call($url, $secret, '/message', $message)), "\n";
