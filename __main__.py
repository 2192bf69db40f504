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
platform = Platform(
    settings.prefix,
    PlatformArgs(settings=settings.with_replaced_images(), stack=pulumi.get_stack()),
)

for name, value in platform.outputs.items():
    pulumi.export(name, value)
pulumi.export(guards.OUTPUT, guards.declared(settings))
