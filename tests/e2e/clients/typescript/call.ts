// Calls with fetch, whose bodies have the types that openapi-typescript made of the service's OpenAPI document.

import { openAsBlob } from "node:fs";

import type { components, operations } from "./schema";

type Answers<Name extends keyof operations> = operations[Name]["responses"];
type Json<Answer> = Answer extends { content: { "application/json": infer Body } } ? Body : never;
type Query = NonNullable<operations["predict"]["parameters"]["query"]>;
type ErrorBody = components["schemas"]["ErrorBody"];

const [service = "", picture = ""] = process.argv.slice(2);

async function predict(query: Query): Promise<Json<Answers<"predict">[200]> | ErrorBody> {
  const form = new FormData();
  form.set("file", await openAsBlob(picture), "picture.jpg");
  const asked = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)]));
  const answer = await fetch(`${service}/predict?${asked}`, { method: "POST", body: form });
  return (await answer.json()) as Json<Answers<"predict">[200]> | ErrorBody;
}

async function models(): Promise<Json<Answers<"list_models">[200]>> {
  const answer = await fetch(`${service}/models`);
  return (await answer.json()) as Json<Answers<"list_models">[200]>;
}

const found = await predict({ top_k: 2 });
if ("error" in found) throw new Error(found.error.message);
const refused = await predict({ model: "tea" });
if (!("error" in refused)) throw new Error("a model that is not there has answered");
const waitS: number = refused.error.retry_after_s ?? 0;

// @ts-expect-error: a misspelt parameter is found by the compiler
const _misspelt: Query = { topk: 2 };

const labels: string[] = found.predictions.map((prediction) => prediction.label);
const names: string[] = (await models()).models.map((model) => model.name);
console.log(JSON.stringify({ models: names, predict: labels, error: [refused.error.code, waitS] }));
