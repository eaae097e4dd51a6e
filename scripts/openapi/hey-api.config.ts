export default {
  input: "openapi.json",
  output: "typescript/hey",
  plugins: ["@hey-api/client-fetch", "@hey-api/sdk", "@hey-api/typescript"],
};
