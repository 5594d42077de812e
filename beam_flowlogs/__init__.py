"""AWS VPC Flow Logs from S3 to Elasticsearch: columnar, exact, restartable.

The data's way, in the order of the modules:
``notification`` -> ``s3_object`` -> ``record_batch`` -> ``document`` -> ``bulk`` (raw documents) and
``rollup`` (per-interface aggregates); what cannot go on is a ``reject``. ``transforms`` wires them into Beam.
"""

__version__ = "0.1.0"
