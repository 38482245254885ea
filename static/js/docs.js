// The description of the API, on which requests can be tried out as whoever is signed in here.

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

const csrf = document.querySelector("meta[name=csrf]").content;
window.SwaggerUIBundle({
  url: document.getElementById("docs").dataset.description,
  dom_id: "#docs",
  deepLinking: true,
  validatorUrl: null,
  requestInterceptor: (request) => {
    const here = new URL(request.url, location.href).origin === location.origin;
    if (here && (request.method ?? "GET") !== "GET") {
      request.headers["X-CSRFToken"] = csrf;
    }
    return request;
  },
});
