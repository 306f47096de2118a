#include "daemon/keeper/service.h"

#ifdef LLMD_HAVE_SYSTEMD
#include <systemd/sd-daemon.h>

void service_ready(void)
{
    sd_notify(0, "READY=1\nSTATUS=serving");
}

void service_stopping(void)
{
    sd_notify(0, "STOPPING=1");
}
#else
void service_ready(void)
{
}

void service_stopping(void)
{
}
#endif
