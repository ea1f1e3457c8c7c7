/* exclude.h - the programs in which the library stays inert, where OTSHIM_EXCLUDE does not say otherwise.
 *
 * They are not servers and start others all day long: nothing to see in them, and what they start inherits LD_PRELOAD and TRACEPARENT all the
 * same. Patterns (* and ?) for the executable's own name, links resolved. OTSHIM_EXCLUDE= (empty) excludes nothing. */
#ifndef OTSHIM_EXCLUDE_H
#define OTSHIM_EXCLUDE_H

#define OTSHIM_DEFAULT_EXCLUDE                                                                                                     \
    "sh,bash,dash,zsh,ksh*,mksh,fish,busybox,tcsh,csh,ls,cat,sed,awk,gawk,mawk,grep,egrep,fgrep,find,xargs,"                       \
    "env,printenv,head,tail,sort,uniq,cut,tr,wc,tee,date,sleep,test,true,false,uname,id,whoami,hostname,"                          \
    "basename,dirname,readlink,realpath,mkdir,rmdir,rm,cp,mv,ln,chmod,chown,touch,stat,df,du,ps,top,kill,"                         \
    "pkill,pgrep,less,more,man,vi,vim*,nano,ssh,sshd,ssh-agent,scp,sftp,sudo,su,login,getty,agetty,"                               \
    "systemd*,dbus-*,journalctl,systemctl,init,tini,dumb-init,gdb,lldb,strace,ltrace,perf,valgrind*,"                              \
    "ldd,ld.so,ld-linux*,ldconfig,make,gmake,cc,gcc*,g++*,clang*,ld,as,cc1*,collect2,tar,gzip,xz,"                                 \
    "dpkg*,tmux*,screen,otshim"

#endif
