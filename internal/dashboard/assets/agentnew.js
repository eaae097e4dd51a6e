"use strict";
// Checks the key of the provider in place, so that it need not be typed again.
(() => {
  document.addEventListener("click", async (e) => {
    const button = e.target.closest("#check-key");
    if (!button) return;
    e.preventDefault();
    const form = button.form, said = document.getElementById("checked");
    const value = (name) => form.elements[name].value.trim();
    if (!value("key")) { form.elements.key.focus(); said.replaceChildren(agento.element("div", { class: "notice warn" }, "Type the key first.")); return; }
    button.setAttribute("aria-busy", "true");
    try {
      const { data } = await agento.api("/providers/check", { method: "POST", body: { provider: value("provider"), key: value("key"), ...(value("baseUrl") ? { baseUrl: value("baseUrl") } : {}) } });
      document.getElementById("models").replaceChildren(...data.models.map((m) => agento.element("option", { value: m })));
      const children = data.ok ? [`The provider accepts the key${data.models.length ? ` and lists ${data.models.length} models: the field Model offers them` : ""}.`]
        : [agento.element("p", {}, data.message ?? "The provider does not accept the key."), data.providerMessage ? agento.element("p", {}, `The provider says: “${data.providerMessage}”`) : null];
      said.replaceChildren(agento.element("div", { class: "notice " + (data.ok ? "good" : "bad") }, ...children));
    } catch (err) {
      said.replaceChildren(agento.element("div", { class: "notice bad" }, err.status ? err.message : "The server could not be reached, so the key was not checked."));
    } finally { button.removeAttribute("aria-busy"); }
  });
  // Another provider or endpoint is another list.
  document.addEventListener("change", (e) => {
    if (e.target.matches("#f-provider, #f-baseUrl, #f-key")) { document.getElementById("checked").replaceChildren(); document.getElementById("models").replaceChildren(); }
  });
})();
