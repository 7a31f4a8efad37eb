// Client code for this server, ready to copy. The key in it is always a placeholder.

function snippets(card) {
  const base = new URL("v1", document.baseURI).href;
  const key = card.key_required ? "YOUR-KEY" : "EMPTY";
  const [passages, queries] = [card.model, queryId(card)];
  return {
    "Python · openai": `from openai import OpenAI

client = OpenAI(base_url="${base}", api_key="${key}")
passages = client.embeddings.create(model="${passages}", input=["荷花什么时候开", "How to return an order"])
query = client.embeddings.create(model="${queries}", input="荷花的花期")
print(len(passages.data), len(query.data[0].embedding))
`,
    "curl": `curl ${base}/embeddings \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer ${key}" \\
  -d '{"model": "${passages}", "input": ["荷花什么时候开", "How to return an order"]}'
`,
    "Python · LangChain": `from langchain_openai import OpenAIEmbeddings

options = {"base_url": "${base}", "api_key": "${key}", "check_embedding_ctx_length": False}
passages = OpenAIEmbeddings(model="${passages}", **options)
queries = OpenAIEmbeddings(model="${queries}", **options)
print(len(passages.embed_documents(["荷花什么时候开"])[0]), len(queries.embed_query("荷花的花期")))
`,
  };
}

function queryId({ model, ids = [] }) {
  return ids.includes(`${model}:query`) ? `${model}:query` : model;
}

function drawSnippets(box, card) {
  const parts = Object.entries(snippets(card)).map(([name, code]) => {
    const text = make("pre", { tabIndex: 0, "aria-label": name }, make("code", {}, code));
    const button = say(make("button", { type: "button", className: "quiet" }), "client.copy");
    const told = make("span", { className: "hint", role: "status" });
    button.addEventListener("click", async () => {
      say(told, (await copyText(code, text)) ? "client.copied" : "client.not.copied");
    });
    const head = make("div", { className: "row" }, make("h3", {}, name), button, told);
    return make("div", { className: "snippet" }, head, text);
  });
  box.replaceChildren(...parts);
}

async function copyText(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Plain http beyond localhost has no clipboard: select the text, and let the old command try.
    getSelection().selectAllChildren(shown);
    return document.execCommand("copy");
  }
}
