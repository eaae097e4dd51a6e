"use strict";
// A folder can be dragged onto the form to upload a skill. Its files are sent with their paths.
(() => {
  const form = () => document.getElementById("folder");
  let dropped = null; // files with paths, in place of those of the input

  const say = (text) => { const at = document.getElementById("chosen"); if (at) at.textContent = text; };

  // walk returns the files of a folder, with their paths.
  async function walk(entry, path = "") {
    if (entry.isFile) return [[path + entry.name, await new Promise((done, failed) => entry.file(done, failed))]];
    const reader = entry.createReader(), all = [];
    for (;;) { // a reader returns a part of the entries at a time
      const part = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (part.length === 0) return all;
      for (const e of part) {
        if (e.name.startsWith(".") || e.name === "node_modules") continue;
        all.push(...await walk(e, path + entry.name + "/"));
        if (all.length > 250) return all;
      }
    }
  }

  document.addEventListener("dragover", (e) => { if (form()) { e.preventDefault(); form().classList.add("over"); } });
  document.addEventListener("dragleave", (e) => { if (!e.relatedTarget) form()?.classList.remove("over"); });
  document.addEventListener("drop", async (e) => {
    if (!form()) return;
    e.preventDefault();
    form().classList.remove("over");
    const entries = [...e.dataTransfer.items].map((i) => i.webkitGetAsEntry?.()).filter(Boolean);
    try { dropped = (await Promise.all(entries.map((one) => walk(one)))).flat(); } catch { say("The folder could not be read."); return; }
    document.getElementById("files").required = dropped.length === 0;
    say(dropped.length ? `${dropped.length} files of ${entries.map((one) => one.name).join(", ")}` : "There are no files in what you have dragged here.");
  });
  document.addEventListener("change", (e) => { if (e.target.id === "files" && e.target.files.length) { dropped = null; say(`${e.target.files.length} files`); } });

  // Browsers send the names of a folder's files with or without the folder: here always with it.
  document.addEventListener("formdata", (e) => {
    if (e.target !== form()) return;
    const files = dropped ?? [...document.getElementById("files").files].map((f) => [f.webkitRelativePath || f.name, f]);
    e.formData.delete("files");
    for (const [path, file] of files) e.formData.append("files", file, path);
  });
})();
