// The Vercel AI SDK through both of its providers that speak OpenAI's API.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  APICallError,
  generateObject,
  generateText,
  Output,
  streamObject,
  streamText,
  tool,
} from "ai";
import { z } from "zod";

const baseURL = `${process.env.COMPAT_URL}/v1`;
const { COMPAT_KEY: apiKey, COMPAT_LIMITED_KEY: limited } = process.env;
const { COMPAT_MODEL: name, COMPAT_TINY: tiny } = process.env;

const compatible = (key = apiKey) =>
  createOpenAICompatible({
    name: "ours",
    baseURL,
    apiKey: key,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
const openai = (key = apiKey) => createOpenAI({ baseURL, apiKey: key });

const models = {
  "openai-compatible": (id = name, key = apiKey) => compatible(key)(id),
  "openai chat": (id = name, key = apiKey) => openai(key).chat(id),
  "openai responses": (id = name, key = apiKey) => openai(key).responses(id),
};

const prompt = "What is the capital of France?";
const settings = { temperature: 0, maxOutputTokens: 48, maxRetries: 0 };
const weather = tool({
  description: "Weather of a city",
  inputSchema: z.object({ city: z.enum(["Paris", "Rome"]) }),
  execute: async ({ city }) => `sunny in ${city}`,
});
const forced = { type: "tool", toolName: "weather" };
const schema = z.object({ city: z.enum(["Paris", "Rome"]), capital: z.boolean() });

for (const [kind, model] of Object.entries(models)) {
  describe(kind, () => {
    test("generateText", async () => {
      const answer = await generateText({ model: model(), prompt, ...settings });
      assert.match(answer.text, /Paris/);
      assert.ok(answer.usage.outputTokens > 0);
      assert.ok(answer.usage.inputTokens > 0);
    });

    test("generateText with a system instruction and messages", async () => {
      const answer = await generateText({
        model: model(),
        instructions: "Be brief.",
        messages: [
          { role: "user", content: "Hello." },
          { role: "assistant", content: "Hello!" },
          { role: "user", content: [{ type: "text", text: prompt }] },
        ],
        ...settings,
      });
      assert.ok(answer.text.length > 0);
    });

    test("streamText", async () => {
      const stream = streamText({ model: model(), prompt, ...settings });
      const parts = [];
      for await (const part of stream.textStream) parts.push(part);
      assert.ok(parts.length > 1);
      assert.match(parts.join(""), /Paris/);
      assert.ok((await stream.usage).outputTokens > 0);
    });

    test("streamText that is aborted", async () => {
      const stop = new AbortController();
      const stream = streamText({ model: model(), prompt, ...settings, abortSignal: stop.signal });
      for await (const part of stream.textStream) {
        assert.ok(part !== undefined);
        stop.abort();
      }
    });

    test("generateText with a forced tool", async () => {
      const answer = await generateText({
        model: model(),
        prompt,
        tools: { weather },
        toolChoice: forced,
        ...settings,
      });
      const [call] = answer.toolCalls;
      assert.equal(call.toolName, "weather");
      assert.ok(["Paris", "Rome"].includes(call.input.city));
      assert.equal(answer.toolResults[0].output, `sunny in ${call.input.city}`);
    });

    test("generateText with a required tool", async () => {
      const answer = await generateText({
        model: model(),
        prompt,
        tools: { weather },
        toolChoice: "required",
        ...settings,
      });
      assert.equal(answer.toolCalls[0].toolName, "weather");
    });

    test("streamText with a forced tool", async () => {
      const stream = streamText({
        model: model(),
        prompt,
        tools: { weather },
        toolChoice: forced,
        ...settings,
      });
      await stream.consumeStream();
      const [call] = await stream.toolCalls;
      assert.ok(["Paris", "Rome"].includes(call.input.city));
    });

    test("generateText after a tool's result", async () => {
      const call = { toolCallId: "call_1", toolName: "weather" };
      const output = { type: "text", value: "sunny" };
      const answer = await generateText({
        model: model(),
        messages: [
          { role: "user", content: "Weather in Paris?" },
          { role: "assistant", content: [{ type: "tool-call", ...call, input: { city: "Paris" } }] },
          { role: "tool", content: [{ type: "tool-result", ...call, output }] },
        ],
        tools: { weather },
        toolChoice: "none",
        ...settings,
      });
      assert.ok(answer.text.length > 0);
    });

    test("generateObject", async () => {
      const answer = await generateObject({ model: model(), schema, prompt, ...settings });
      assert.ok(schema.safeParse(answer.object).success);
    });

    test("streamObject", async () => {
      const stream = streamObject({ model: model(), schema, prompt, ...settings });
      for await (const part of stream.partialObjectStream) assert.ok(part);
      assert.ok(schema.safeParse(await stream.object).success);
    });

    test("generateText with Output.object", async () => {
      const answer = await generateText({
        model: model(),
        prompt,
        output: Output.object({ schema }),
        ...settings,
      });
      assert.ok(schema.safeParse(answer.output).success);
    });

    for (const [what, id, key, status] of [
      ["unknown model", "no-such-model", apiKey, 404],
      ["wrong key", name, "wrong", 401],
    ]) {
      test(`${what} is an APICallError with ${status}`, async () => {
        await assert.rejects(
          generateText({ model: model(id, key), prompt, ...settings }),
          (error) => APICallError.isInstance(error) && error.statusCode === status && !error.isRetryable,
        );
      });
    }
  });
}

test("a rate limit is retryable and says when", async () => {
  const model = compatible(limited)(tiny);
  await assert.rejects(
    async () => {
      for (let i = 0; i < 3; i += 1) {
        await generateText({ model, prompt: "hi", maxOutputTokens: 1, maxRetries: 0 });
      }
    },
    (error) =>
      APICallError.isInstance(error) &&
      error.statusCode === 429 &&
      error.isRetryable &&
      Number(error.responseHeaders["retry-after"]) >= 1,
  );
});
