/** Swagger UI over the server's own OpenAPI document; each call is signed by the server before it is sent. */

const { root } = document.documentElement.dataset;

/** Get the headers that sign a call. The secret itself never leaves the server. */
async function sign(call) {
  const response = await fetch(`${root}/admin/sign`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(call),
  });
  if (!response.ok) throw new Error(`The call could not be signed: ${response.status}. Is the admin still signed in?`);
  return (await response.json()).headers;
}

const pathOf = ({ url }) => new URL(url, location.href).pathname.slice(root.length);

async function signed(request) {
  const path = pathOf(request);
  if (request.loadSpec || path === "/openapi.json") return request;
  const { search } = new URL(request.url, location.href);
  Object.assign(request.headers, await sign({ path, method: request.method, query: search, body: request.body ?? "" }));
  return request;
}

/** The uuid of the last message that this page has sent, and those that samples of edits and deletions had before. */
let sent = "";
const replaced = new Set();

/** After a message is sent, the samples of an edit and a deletion name it, so they can be sent too. */
function named(response) {
  const { uuid } = response.ok && pathOf(response) === "/message" ? (response.body ?? {}) : {};
  if (uuid && uuid !== sent) {
    sent = uuid;
    nameSent();
  }
  return response;
}

function nameSent() {
  for (const method of sent ? ["patch", "delete"] : []) {
    const pathMethod = ["/message", method];
    const example = ui.specSelectors.specJson().getIn(["paths", ...pathMethod, "requestBody", "content", "application/json", "example", "uuid"]);
    const typed = ui.oas3Selectors.requestBodyValue(...pathMethod);
    const uuid = [example, ...replaced].find((each) => each !== sent && typed?.includes(each));
    if (uuid) ui.oas3Actions.setRequestBodyValue({ value: typed.replace(uuid, sent), pathMethod });
  }
  if (sent) replaced.add(sent);
}

/** What Swagger UI leaves without a name, at the wrong level, or out of reach of the keyboard. */
const NAMES = [
  [".copy-to-clipboard button", "aria-label", "Copy"],
  [".body-param__text", "aria-label", "Request body"],
  [".opblock-title", "aria-level", "3"],
  ["pre", "tabindex", "0"],
];

function complete(place) {
  for (const [selector, attribute, value] of NAMES) {
    for (const each of place.querySelectorAll(`${selector}:not([${attribute}])`)) each.setAttribute(attribute, value);
  }
}

const place = document.getElementById("swagger");
function changed() {
  complete(place);
  // A sample is there when its operation is opened.
  nameSent();
}

new MutationObserver(changed).observe(place, { childList: true, subtree: true });

const ui = window.SwaggerUIBundle({
  url: `${root}/openapi.json`,
  dom_id: "#swagger",
  requestInterceptor: signed,
  responseInterceptor: named,
  // An operation with a link to itself is a link inside of a button.
  deepLinking: false,
  // A long answer is shown at once; to colour 2,000 channels takes half a minute.
  syntaxHighlight: false,
  tryItOutEnabled: true,
  // Those who may only look are offered no calls.
  ...("readOnly" in place.dataset ? { supportedSubmitMethods: [] } : {}),
  validatorUrl: null,
});
