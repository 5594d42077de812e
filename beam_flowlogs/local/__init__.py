"""The local stack on loopback: a real Elasticsearch and an S3/SQS emulator that sends notifications."""
