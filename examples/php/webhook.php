<?php
// Receives webhooks of channelstream (docs/webhooks.md), without a library: verifies each call and logs its events.
// To try it: WEBHOOK_SECRET=whsec_... php -S 127.0.0.1:8010 examples/php/webhook.php
// WEBHOOK_SECRET has the server's secret, or several with blanks between them.

const TOLERANCE_S = 300;
const LEAST_KEY_BYTES = 24; // Standard Webhooks. With an empty key, such as of a variable that is not set, anybody could sign.

/** Return the events of a call, or null if it is not from a server with one of these secrets. $body is the text as it came. */
function channelstream_events(array $headers, string $body, array $secrets): ?array
{
    $id = $headers['webhook-id'] ?? '';
    $sent = $headers['webhook-timestamp'] ?? '';
    $shown = explode(' ', $headers['webhook-signature'] ?? '');
    $genuine = false;
    foreach ($secrets as $secret) {
        $key = base64_decode(substr($secret, strlen('whsec_')));
        if (strlen($key) < LEAST_KEY_BYTES) {
            continue;
        }
        $mac = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$sent.$body", $key, true));
        foreach ($shown as $each) {
            $genuine = hash_equals($mac, $each) || $genuine;
        }
    }
    if (!$genuine || !ctype_digit($sent) || abs(time() - (int) $sent) > TOLERANCE_S) {
        return null;
    }
    return json_decode($body, true, 512, JSON_THROW_ON_ERROR)['data']['events'];
}

http_response_code(500); // Until the events are handled: PHP answers 200 after an error that it shows, and they would be lost.
$headers = [];
foreach (['webhook-id', 'webhook-timestamp', 'webhook-signature'] as $name) {
    $headers[$name] = $_SERVER['HTTP_' . strtoupper(strtr($name, '-', '_'))] ?? '';
}
$events = channelstream_events($headers, file_get_contents('php://input'), explode(' ', (string) getenv('WEBHOOK_SECRET')));
foreach ($events ?? [] as $event) {
    error_log(json_encode($event));
}
http_response_code($events === null ? 401 : 204);
