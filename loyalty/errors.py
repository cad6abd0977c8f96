"""What can be wrong with points, purchases, coupons and tags. No message repeats a value."""

from kernel import ConflictError, InvalidRequestError, NotFoundError, YinyomError


class InsufficientPointsError(ConflictError):
    """A balance is never below zero."""

    slug = "insufficient-points"
    title = "The member has fewer points than that"
    remedy = "Read the balance, and redeem no more than it."


class ReferenceReusedError(ConflictError):
    """A reference names one thing; the same one came again with other content."""

    slug = "reference-reused"
    title = "This reference was used for something else"
    remedy = "Use a reference of its own for each transaction."


class MemberRestrictedError(YinyomError):
    """The member's data may only be stored (PDPA s.34, GDPR art. 18)."""

    slug = "member-restricted"
    status = 423
    title = "This member's data is restricted to storage"
    remedy = "Do not use the data. Ask again after the restriction has ended."
    exit_code = 4


class CouponStateError(ConflictError):
    """The coupon was used before, or its time is over."""

    slug = "coupon-not-held"
    title = "The coupon cannot be used any more"


class CouponNotFoundError(NotFoundError):
    """The member has no such coupon."""

    slug = "coupon-unknown"
    title = "No such coupon"


class TagNotFoundError(NotFoundError):
    """The pack declares no such tag."""

    slug = "tag-unknown"
    title = "No such tag"
    remedy = "GET /v1/tags lists the tags."


class UnknownOfferError(InvalidRequestError):
    """The pack declares no such coupon."""

    slug = "unknown-coupon-offer"
    title = "No such coupon is offered"
