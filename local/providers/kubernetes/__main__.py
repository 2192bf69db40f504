"""Run the provider; the engine passes its own address as the only argument."""

from local.providers.kubernetes.provider import VERSION, KubernetesProvider
from local.providers.protocol import serve

serve(KubernetesProvider(), VERSION)
