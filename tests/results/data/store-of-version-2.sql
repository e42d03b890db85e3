BEGIN TRANSACTION;
CREATE TABLE accuracies (
	id INTEGER NOT NULL, 
	sweep_id TEXT NOT NULL, 
	cell_key TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	wall_s FLOAT NOT NULL, 
	log_path TEXT NOT NULL, 
	samples_per_process INTEGER NOT NULL, 
	note TEXT NOT NULL, 
	samples INTEGER, 
	top1 FLOAT, 
	top1_low FLOAT, 
	top1_high FLOAT, 
	top5 FLOAT, 
	top5_low FLOAT, 
	top5_high FLOAT, 
	agreement FLOAT, 
	agreement_low FLOAT, 
	agreement_high FLOAT, 
	float_top1 FLOAT, 
	check_passed BOOLEAN, 
	"check" JSON, 
	failure_class TEXT, 
	failure_message TEXT, 
	failure_evidence TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(sweep_id, cell_key) REFERENCES cells (sweep_id, "key"), 
	UNIQUE (sweep_id, cell_key, attempt)
);
INSERT INTO "accuracies" VALUES(1,'20261124-083000-ab12','2ec3de33e7c9e8ec',1,2.5,'20261124-083000-ab12/logs/R58M/int8--cpu--t1--2ec3de33e7c9e8ec--accuracy-000-1.log.gz',500,'',500,0.91,0.89,0.93,NULL,NULL,NULL,0.98,0.97,0.99,0.915,1,'{"samples": 500, "cosine_min": 0.999, "max_abs_error": 0.01, "label_agreement": 1.0, "all_zero": false, "not_finite": false, "passed": true, "limits": "cosine at least 0.99"}',NULL,NULL,NULL);
CREATE TABLE cells (
	sweep_id TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	variant_name TEXT NOT NULL, 
	variant_sha256 TEXT NOT NULL, 
	serial TEXT NOT NULL, 
	delegate TEXT NOT NULL, 
	threads INTEGER NOT NULL, 
	tool_sha256 TEXT NOT NULL, 
	core_mask TEXT, 
	profile TEXT NOT NULL, 
	mode JSON NOT NULL, 
	PRIMARY KEY (sweep_id, "key"), 
	FOREIGN KEY(sweep_id) REFERENCES sweeps (id)
);
INSERT INTO "cells" VALUES('20261124-083000-ab12','2ec3de33e7c9e8ec','int8','696e7438696e7438696e7438696e7438696e7438696e7438696e7438696e7438','R58M','cpu',1,'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',NULL,'generic','{"runs": 30}');
CREATE TABLE devices (
	sweep_id TEXT NOT NULL, 
	serial TEXT NOT NULL, 
	title TEXT NOT NULL, 
	kind TEXT, 
	profile TEXT, 
	labels JSON NOT NULL, 
	facts JSON, 
	preparation JSON, 
	failure_class TEXT, 
	failure_message TEXT, 
	failure_evidence TEXT, 
	PRIMARY KEY (sweep_id, serial), 
	FOREIGN KEY(sweep_id) REFERENCES sweeps (id)
);
INSERT INTO "devices" VALUES('20261124-083000-ab12','R58M','Google Pixel 8','phone','generic','[]','{"serial": "R58M", "kind": "phone", "model": "Pixel 8", "maker": "Google", "soc": null, "board": null, "abis": [], "executable_abis": [], "android_version": null, "api_level": null, "fingerprint": null, "build_type": null, "cores": [], "memory_mb": null, "gpu": null}',NULL,NULL,NULL,NULL);
CREATE TABLE invocations (
	id INTEGER NOT NULL, 
	sweep_id TEXT NOT NULL, 
	cell_key TEXT NOT NULL, 
	purpose TEXT NOT NULL, 
	invocation_index INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	block INTEGER NOT NULL, 
	started_at_utc TEXT NOT NULL, 
	wall_s FLOAT NOT NULL, 
	command JSON NOT NULL, 
	log_path TEXT NOT NULL, 
	labels JSON NOT NULL, 
	telemetry_before JSON, 
	telemetry_during JSON, 
	telemetry_after JSON, 
	gate JSON, 
	cores_allowed TEXT, 
	delegate_achieved TEXT, 
	delegated_nodes INTEGER, 
	total_nodes INTEGER, 
	partitions INTEGER, 
	fell_back BOOLEAN, 
	fell_back_reason TEXT, 
	runs INTEGER, 
	latency_avg_us FLOAT, 
	latency_median_us FLOAT, 
	latency_min_us FLOAT, 
	latency_max_us FLOAT, 
	latency_std_us FLOAT, 
	init_us FLOAT, 
	first_inference_us FLOAT, 
	memory_init_mb FLOAT, 
	memory_overall_mb FLOAT, 
	peak_memory_mb FLOAT, 
	failure_class TEXT, 
	failure_message TEXT, 
	failure_evidence TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(sweep_id, cell_key) REFERENCES cells (sweep_id, "key"), 
	UNIQUE (sweep_id, cell_key, purpose, invocation_index, attempt)
);
INSERT INTO "invocations" VALUES(1,'20261124-083000-ab12','2ec3de33e7c9e8ec','latency',0,1,0,'2026-11-24T08:30:00.000Z',1.25,'["benchmark_model", "--graph=x"]','20261124-083000-ab12/logs/R58M/int8--cpu--t1--2ec3de33e7c9e8ec--latency-000-1.log.gz','[]','{"battery_percent": 80}','null','null','null',NULL,'cpu',31,31,1,0,'',30,1000.0,NULL,1000.0,1000.0,1.0,5000.0,1500.0,1.5,4.5,NULL,NULL,NULL,NULL);
INSERT INTO "invocations" VALUES(2,'20261124-083000-ab12','2ec3de33e7c9e8ec','latency',1,1,1,'2026-11-24T08:30:01.000Z',1.25,'["benchmark_model", "--graph=x"]','20261124-083000-ab12/logs/R58M/int8--cpu--t1--2ec3de33e7c9e8ec--latency-001-1.log.gz','[]','{"battery_percent": 80}','null','null','null',NULL,'cpu',31,31,1,0,'',30,1010.0,NULL,1010.0,1010.0,1.0,5000.0,1500.0,1.5,4.5,NULL,NULL,NULL,NULL);
INSERT INTO "invocations" VALUES(3,'20261124-083000-ab12','2ec3de33e7c9e8ec','memory',0,1,0,'2026-11-24T08:30:00.000Z',1.25,'["benchmark_model", "--graph=x"]','20261124-083000-ab12/logs/R58M/int8--cpu--t1--2ec3de33e7c9e8ec--memory-000-1.log.gz','[]','{"battery_percent": 80}','null','null','null',NULL,'cpu',31,31,1,0,'',30,9999.0,NULL,9999.0,9999.0,1.0,5000.0,1500.0,1.5,4.5,NULL,NULL,NULL,NULL);
CREATE TABLE schema_versions (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "schema_versions" VALUES(2);
CREATE TABLE sweeps (
	id TEXT NOT NULL, 
	started_at_utc TEXT NOT NULL, 
	finished_at_utc TEXT, 
	status TEXT NOT NULL, 
	preset TEXT NOT NULL, 
	seed INTEGER NOT NULL, 
	harness_version TEXT NOT NULL, 
	spec JSON NOT NULL, 
	host JSON NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "sweeps" VALUES('20261124-083000-ab12','2026-11-24T08:30:00.000Z','2026-11-24T08:30:00.000Z','finished','quick',1,'0.1.0','{"model": "fashion-dscnn"}','{"name": "lab"}');
CREATE TABLE tools (
	sweep_id TEXT NOT NULL, 
	sha256 TEXT NOT NULL, 
	name TEXT NOT NULL, 
	family TEXT NOT NULL, 
	facts JSON NOT NULL, 
	PRIMARY KEY (sweep_id, sha256), 
	FOREIGN KEY(sweep_id) REFERENCES sweeps (id)
);
INSERT INTO "tools" VALUES('20261124-083000-ab12','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','benchmark_model','interpreter','{"name": "benchmark_model", "family": "interpreter", "system": "android", "abi": "arm64-v8a", "sha256": "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "path": "/tools/benchmark_model", "launcher": [], "vendor_folder": null, "origin": "test", "flags": ["graph", "num_runs"]}');
CREATE TABLE variants (
	sweep_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	sha256 TEXT, 
	size_bytes INTEGER, 
	gzip_size_bytes INTEGER, 
	card JSON, 
	failure_class TEXT, 
	failure_message TEXT, 
	failure_evidence TEXT, 
	PRIMARY KEY (sweep_id, name), 
	FOREIGN KEY(sweep_id) REFERENCES sweeps (id)
);
INSERT INTO "variants" VALUES('20261124-083000-ab12','int8','696e7438696e7438696e7438696e7438696e7438696e7438696e7438696e7438',100000,50000,'{"schema_version": 1, "model": "fashion-dscnn", "model_sha256": "0000000000000000000000000000000000000000000000000000000000000000", "recipe": "int8", "steps": [], "target_runtime": "2.14.1", "libraries": {}, "calibration": null, "sha256": "696e7438696e7438696e7438696e7438696e7438696e7438696e7438696e7438", "size_bytes": 100000, "gzip_size_bytes": 50000, "operators": {"CONV_2D": 3}, "operator_versions": {"CONV_2D": 1}, "custom_operators": [], "weight_types": {}, "inputs": [], "outputs": [], "seconds": 1.5}',NULL,NULL,NULL);
COMMIT;
