// Workflows store the values of widgets by position. This script brings the layouts of older node packs
// into the present order when a workflow is opened. A layout is told by the types of its values.
import { app } from "../../scripts/app.js";

const CONTROL = ["fixed", "increment", "decrement", "randomize"];

// prompt, negative_prompt, duration, steps, cfg_strength, seed, control, steering_strength, normalize, ...
function sampler(values) {
  let found = [...values];
  if (typeof found[0] === "number") {
    const prompts = found.splice(-2); // negative_prompt and prompt once stood last
    found = [prompts[1], prompts[0], ...found];
  }
  if (found.length >= 6 && !CONTROL.includes(found[6])) found.splice(6, 0, "fixed");
  if (typeof found[7] === "boolean") found.splice(7, 0, 0.1); // before there was a steering_strength
  return found;
}

// prompt, fps, duration, cache_dir, name, mask_strength, mask_clip, mask_sync, ...
function extractor(values) {
  if (typeof values[4] !== "number") return values;
  const found = [...values.slice(0, 4), "", ...values.slice(4, 7)]; // before there was a name
  if (values[7] === true) {
    warn("SelVA Feature Extractor: crop_to_mask is not supported. Crop the pictures with another node.");
  }
  return found;
}

export const MIGRATIONS = { SelvaSampler: sampler, SelvaFeatureExtractor: extractor };

export function migrate(graph) {
  const inner = graph?.definitions?.subgraphs ?? [];
  for (const node of [graph, ...inner].flatMap((each) => each?.nodes ?? [])) {
    const migration = MIGRATIONS[node?.type];
    if (migration && Array.isArray(node.widgets_values)) node.widgets_values = migration(node.widgets_values);
  }
}

function warn(detail) {
  console.warn(detail);
  app.extensionManager?.toast?.add?.({ severity: "warn", summary: "SelVA", detail, life: 15000 });
}

app.registerExtension({
  name: "selva.layouts",
  beforeConfigureGraph(graph) {
    migrate(graph);
  },
});
