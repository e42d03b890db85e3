# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Reading results
#
# Open this file as a notebook (Jupyter with Jupytext, VS Code, PyCharm), or run it as a program. It reads the results
# folder that `harness sweep` wrote: `results`, or `$HARNESS_RESULTS`.

# %%
import harness

# %% [markdown]
# One row per cell (variant x device x delegate x threads). `docs/exports.md` lists the columns with types and units;
# the ending of a column's name is its unit.

# %%
summary = harness.load_results()
ranked = summary[summary["verdict"] == "ranked"]
print(ranked[["device", "variant", "delegate_requested", "latency_median_us", "size_bytes", "top1"]].to_string())

# %% [markdown]
# How much faster than fp32 is each variant, on the same device and delegate?

# %%
latency_ms = (
    ranked.pivot_table(index=["device", "delegate_requested"], columns="variant", values="latency_median_us") / 1000
)
if "fp32" in latency_ms:
    print(latency_ms.rdiv(latency_ms["fp32"], axis="index").round(2).to_string())

# %% [markdown]
# One row per process of the tool. Only the last attempt of each place in the plan counts, and only the latency pass
# measures latency.

# %%
processes = harness.load_results(rows="invocations")
counted = processes[(processes["purpose"] == "latency") & processes["is_last_attempt"]]
print(counted.groupby(["device", "variant", "delegate_requested"])["latency_avg_us"].describe().to_string())

# %% [markdown]
# Put all sweeps into one table: how did one cell change from night to night?

# %%
history = harness.load_results(sweep="all")
nights = history.pivot_table(index="sweep_id", columns=["device", "variant"], values="latency_median_us")
print(nights.to_string())

# %% [markdown]
# A table keeps its values and types when it is written to a file and read back; so do the files of
# `harness results export`.

# %%
harness.write_export(summary, "latest.parquet")
again = harness.read_export("latest.parquet")
print(f"read back: {len(again)} rows, equal: {again.equals(summary)}")
