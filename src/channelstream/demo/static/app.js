/** Calls to the application. Every action of a visitor goes to the application, never to the push server. */

const root = document.documentElement.dataset.root;

/** The application refused a request; `status` 0 means that it could not be reached. */
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Send JSON to the application and return its JSON answer; throws Refused. */
export async function ask(path, body, method = "POST") {
  let response, answer;
  try {
    response = await fetch(`${root}/demo/${path}`, {
      method,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    // A truncated success means that the connection was lost: it fails like a request without an answer.
    answer = await (response.ok ? response.json() : response.json().catch(() => ({})));
  } catch {
    throw new Refused(0, "The server cannot be reached.");
  }
  if (!response.ok) throw new Refused(response.status, answer.error ?? `The server answered ${response.status}.`);
  return answer;
}
