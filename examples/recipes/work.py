"""The work of the recipes: replace it by yours."""


def refresh(tick: object = None) -> None:
    """Do what is to be done once in the cluster."""
    print('refreshed', tick)


def open_invoices() -> list[str]:
    """Return the ids of what is to be done."""
    return [f'invoice-{number}' for number in range(20)]


def send(invoice: str) -> None:
    """Do one of them."""
    print('sent', invoice)
