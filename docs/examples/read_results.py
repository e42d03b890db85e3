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
# One row a cell (variant x device x delegate x threads). The columns, their types and units stand in `docs/exports.md`;
# a unit is the ending of its column's name.

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
# One row a process of the tool. Only the last attempt of each place in the plan counts, and only the latency pass is
# about latency.

# %%
processes = harness.load_results(rows="invocations")
counted = processes[(processes["purpose"] == "latency") & processes["is_last_attempt"]]
print(counted.groupby(["device", "variant", "delegate_requested"])["latency_avg_us"].describe().to_string())

# %% [markdown]
# All sweeps in one table: how one cell went from night to night.

# %%
history = harness.load_results(sweep="all")
nights = history.pivot_table(index="sweep_id", columns=["device", "variant"], values="latency_median_us")
print(nights.to_string())

# %% [markdown]
# Written to a file and read back, a table keeps its values and types; so does what `harness results export` writes.

# %%
harness.write_export(summary, "latest.parquet")
again = harness.read_export("latest.parquet")
print(f"read back: {len(again)} rows, equal: {again.equals(summary)}")
