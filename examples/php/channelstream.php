<?php
// Calls channelstream from PHP, without a library: each request is signed as a whole (docs/security.md, "Signed requests").

/** Return the header Authorization. $key is the id of a key, empty for the server's option `secret`. */
function channelstream_sign(string $secret, string $method, string $target, string $body, string $key = '', ?int $ts = null, ?string $nonce = null): string
{
    $ts ??= time();
    $nonce ??= bin2hex(random_bytes(16));
    $text = implode("\n", ['v1', $method, $target, $ts, $nonce, hash('sha256', $body)]);
    $sig = hash_hmac('sha256', $text, $secret);
    return "CS-HMAC-SHA256 key=$key, ts=$ts, nonce=$nonce, sig=$sig";
}

/** Send a call of the API and return its answer, as objects: encoded again for a page, an empty one is still {}. */
function channelstream_call(string $url, string $secret, string $path, mixed $body, string $key = ''): mixed
{
    $json = json_encode($body, JSON_THROW_ON_ERROR);
    $digest = 'sha-256=:' . base64_encode(hash('sha256', $json, true)) . ':'; // lets the server judge the call before it reads the body
    $headers = ['Content-Type: application/json', "Content-Digest: $digest", 'Authorization: ' . channelstream_sign($secret, 'POST', $path, $json, $key)];
    $options = ['method' => 'POST', 'header' => $headers, 'content' => $json, 'ignore_errors' => true, 'timeout' => 10];
    $stream = fopen($url . $path, 'r', false, stream_context_create(['http' => $options]));
    $answer = $stream ? stream_get_contents($stream) : false;
    if ($answer === false || !preg_match('/^HTTP\/\S+ 2\d\d/', stream_get_meta_data($stream)['wrapper_data'][0])) {
        throw new RuntimeException("the push server refused $path: " . ($answer ?: 'no answer'));
    }
    return json_decode($answer, false, 512, JSON_THROW_ON_ERROR);
}
