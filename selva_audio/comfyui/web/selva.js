// Workflows store the values of widgets by position. This script brings the layouts of older node packs
// into the present order when a workflow is opened. A layout is told by the types of its values.
// It also gives the schedulers their button.
import { app } from "../../scripts/app.js";

const CONTROL = ["fixed", "increment", "decrement", "randomize"];
const SCHEDULERS = { SelvaLoraScheduler: "lora", SelvaTiScheduler: "ti", SelvaBigvganScheduler: "vocoder" };

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

// data_dir, output_dir, steps, rank, lr, alpha, target, batch_size, warmup_steps, grad_accum, save_every, resume_path,
// seed, control, timestep_mode, logit_normal_sigma, curriculum_switch, lora_dropout, lora_plus_ratio, init_mode,
// use_rslora, lr_schedule, ...
function loraTrainer(values) {
  const found = [...values];
  if (typeof found[10] === "string") found.splice(7, 0, 4); // before there was a batch_size
  if (found.length > 12 && !CONTROL.includes(found[13])) found.splice(13, 0, "fixed");
  // Before there was a choice: the adapter started from noise, with the plain scale.
  if (!["standard", "pissa"].includes(found[19])) {
    const usual = ["uniform", 1.0, 0.6, 0.0, 1.0];
    for (let place = found.length; place >= 14 && place < 19; place++) found.push(usual[place - 14]);
    if (found.length >= 19) found.splice(19, 0, "standard", false);
  }
  return found;
}

// data_dir, output_path, n_tokens, steps, lr, batch_size, seed, control, save_every, inject_mode, init_text, warmup_steps, ...
function inversionTrainer(values) {
  const found = [...values];
  if (found.length > 6 && !CONTROL.includes(found[7])) found.splice(7, 0, "fixed");
  if (typeof found[10] === "number") found.splice(9, 0, "suffix"); // before there was an inject_mode
  return found;
}

// data_dir, output_path, train_mode, steps, lr, batch_size, segment_seconds, lambda_l2sp, use_gafilter,
// gafilter_kernel_size, lambda_phase, save_every, seed, control, discriminator_path, lora_adapter, ...
// What there was no widget for was not done: no pull to the start, no filters, no phase loss.
function vocoderTrainer(values) {
  const found = [...values];
  if (typeof found[2] === "number") {
    found.splice(2, 0, "snake_alpha_only");
    found.splice(7, 0, 0);
  }
  if (typeof found[8] === "number") {
    if (found[8] > 5) found.splice(8, 0, 0); // it is save_every, from 50 on; lambda_phase ends at 5
    found.splice(8, 0, false, 9);
  }
  if (found.length > 12 && !CONTROL.includes(found[13])) found.splice(13, 0, "fixed");
  return found;
}

// prompt, negative_prompt, reference_dir, n_opt_steps, opt_lr, n_ode_steps, n_grad_steps, style_weight, gram_weight,
// anchor_weight, steps, cfg_strength, seed, control, normalize, target_lufs, ...
function ditto(values) {
  const found = [...values];
  const missing = 13 - found.findIndex((each, place) => place > 8 && typeof each !== "number"); // the control, or normalize
  if (missing === 1) found.splice(9, 0, 0); // before there was an anchor_weight
  if (missing === 2) found.splice(8, 0, 0, 0); // and a gram_weight
  if (found.length > 12 && !CONTROL.includes(found[13])) found.splice(13, 0, "fixed");
  return found;
}

export const MIGRATIONS = {
  SelvaSampler: sampler,
  SelvaFeatureExtractor: extractor,
  SelvaLoraTrainer: loraTrainer,
  SelvaTextualInversionTrainer: inversionTrainer,
  SelvaBigvganTrainer: vocoderTrainer,
  SelvaDittoOptimizer: ditto,
};

export function migrate(graph) {
  const inner = graph?.definitions?.subgraphs ?? [];
  for (const node of [graph, ...inner].flatMap((each) => each?.nodes ?? [])) {
    const migration = MIGRATIONS[node?.type];
    if (migration && Array.isArray(node.widgets_values)) node.widgets_values = migration(node.widgets_values);
  }
}

function warn(detail) {
  console.warn(detail);
  tell("warn", detail);
}

function tell(severity, detail) {
  app.extensionManager?.toast?.add?.({ severity, summary: "SelVA", detail, life: 15000 });
}

// The node that trains holds the queue: only a request beside it can reach it.
async function skip(node) {
  const experiments_file = node.widgets.find((each) => each.name === "experiments_file").value;
  const body = JSON.stringify({ experiments_file, kind: SCHEDULERS[node.comfyClass] });
  const answer = await app.api.fetchApi("/selva/skip", { method: "POST", body });
  const { error } = await answer.json();
  tell(error ? "error" : "info", error ?? "The experiment that runs will be left after this step.");
}

app.registerExtension({
  name: "selva.layouts",
  beforeConfigureGraph(graph) {
    migrate(graph);
  },
  nodeCreated(node) {
    if (!(node.comfyClass in SCHEDULERS)) return;
    const button = node.addWidget("button", "skip this experiment", null, () => skip(node));
    button.serialize = false; // values of widgets are stored by position
    button.options.serialize = false;
  },
});
