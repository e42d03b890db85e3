"""One sweep over the phones of many hosts: dask.distributed carries jobs to them, each host measures its own phones."""
