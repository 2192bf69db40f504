"""Run the provider; the engine passes its own address as the only argument."""

from local.providers.aws.provider import VERSION, AwsProvider
from local.providers.protocol import serve

serve(AwsProvider(), VERSION)
