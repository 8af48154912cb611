"""
Every error this program raises on purpose. A message says what happened and what to do.

* DaasError                     code, HTTP status, a message fit for the person who asked
  - BadRequest             400  malformed; `field` names what
  - Unauthorized           401  no login
  - Forbidden              403  visible, but not yours
  - NotFound               404  absent, or invisible to you
  - WrongState             409  the thing cannot do that now
  - KeyReused              409  an idempotency key came back with another body
  - QuotaExceeded          429
  - NoRoom                 503  no node has room and policy says not to queue
  - NotReady               503  a part we need (database, schema) is away; try again
  - ConfigError                 a setting is wrong; the program does not start
  - StepFailed             500  a step gave up for good; the session becomes `failed`
    + NotOurs                   the machine does not bear our tag; it was left alone
    + NumberTaken               a machine of somebody else has the number that we leased
    + TemplateMissing           the image is gone: build the template
    + Refused                   the hypervisor said no; holds what it said
    + Unsupported               this hypervisor cannot do that
    + CommandFailed             a child process ended badly; holds the tail of its output
* NotYet                        not an error: waiting for `why`, look again in `after_s`
  - NoCapacity                  no node has room; the session queues
  - Unreachable                 the provider does not answer; no deadline runs meanwhile
  - Congested                   a lock of the hypervisor was not to be had; fewer at once
* LeaseLost                     another worker took this job over; drop what you were doing
* Stopped                       the step was told to stop, and did
"""


class DaasError(Exception):
    status, code = 500, "internal"
    retry_after_s: int | None = None

    def __init__(self, message: str, field: str | None = None):
        super().__init__(message)
        self.field = field


class BadRequest(DaasError):
    status, code = 400, "bad-request"


class Unauthorized(DaasError):
    status, code = 401, "unauthorized"


class Forbidden(DaasError):
    status, code = 403, "forbidden"


class NotFound(DaasError):
    status, code = 404, "not-found"


class WrongState(DaasError):
    status, code = 409, "wrong-state"


class KeyReused(DaasError):
    status, code = 409, "idempotency-key-reused"


class QuotaExceeded(DaasError):
    status, code = 429, "quota-exceeded"


class NoRoom(DaasError):
    status, code = 503, "no-room"
    retry_after_s = 30


class NotReady(DaasError):
    status, code = 503, "not-ready"
    retry_after_s = 2


class ConfigError(DaasError):
    code = "config"


class StepFailed(DaasError):
    code = "step-failed"


class NotOurs(StepFailed):
    code = "not-ours"


class NumberTaken(StepFailed):
    code = "number-taken"


class TemplateMissing(StepFailed):
    code = "template-missing"


class Refused(StepFailed):
    code = "refused"


class Unsupported(StepFailed):
    status, code = 409, "unsupported"


class CommandFailed(StepFailed):
    code = "command-failed"

    def __init__(self, command: str, exit_code: int, tail: str = ""):
        super().__init__(f"{command} ended with exit code {exit_code}.")
        self.exit_code, self.tail = exit_code, tail


class NotYet(Exception):
    def __init__(self, after_s: float, why: str):
        super().__init__(f"waiting for {why}; look again in {after_s} s")
        self.after_s, self.why = after_s, why


class NoCapacity(NotYet):
    pass


class Unreachable(NotYet):
    pass


class Congested(NotYet):
    pass


class LeaseLost(Exception):
    pass


class Stopped(Exception):
    pass
