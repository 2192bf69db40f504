"""The aws provider's stand-in: what backups need of S3, KMS and IAM, over boto3.

It is made for a local AWS endpoint (`AWS_ENDPOINT_URL`) and refuses to work without one.
"""
