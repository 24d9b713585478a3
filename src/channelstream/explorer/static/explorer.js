/** Swagger UI over the server's own OpenAPI document; each call is signed by the server before it is sent. */

const { root } = document.documentElement.dataset;

/** Get the signature of a path. The secret itself never leaves the server. */
async function sign(path) {
  const response = await fetch(`${root}/admin/sign`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ path }),
  });
  if (!response.ok) throw new Error(`The call could not be signed: ${response.status}. Is the admin still signed in?`);
  return (await response.json()).signature;
}

async function signed(request) {
  const { pathname } = new URL(request.url, location.href);
  if (request.loadSpec || pathname === `${root}/openapi.json`) return request;
  request.headers["x-channelstream-secret"] = await sign(pathname.slice(root.length));
  return request;
}

window.SwaggerUIBundle({
  url: `${root}/openapi.json`,
  dom_id: "#swagger",
  requestInterceptor: signed,
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
