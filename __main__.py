"""Build the platform that the stack's settings describe.

Run by the engine (`pulumi up -s <stack>`): reads `stacks/Pulumi.<stack>.yaml`, declares everything
as one component, and exports its flat outputs.
"""

import gc

import pulumi

from components.platform import Platform, PlatformArgs
from stacks import guards
from stacks.program import forbid_losses, from_program

# All that is made here stays until the end: to look for garbage in it again and again makes the
# time of a preview grow faster than the number of resources.
gc.disable()

settings = from_program()
forbid_losses(settings)
try:
    platform = Platform(
        settings.prefix,
        PlatformArgs(settings=settings.with_replaced_images(), stack=pulumi.get_stack()),
    )
except ValueError as problem:  # what a part alone can tell, such as a bucket that is its own
    raise pulumi.RunError(f"stacks/Pulumi.{pulumi.get_stack()}.yaml: {problem}") from None

for name, value in platform.outputs.items():
    pulumi.export(name, value)
pulumi.export(guards.OUTPUT, guards.declared(settings))
