# An image that cannot be had costs nobody a running service: the update is paused at once, and says
# why. When the image is there it goes on as soon as a person says so; a better one goes ahead anyway.
node n1
node n2
service web web:1 replicas=2 monitor=1000
apply
run 1000
image web:2 missing
service web web:2 replicas=2 monitor=1000
apply
run 3000
show
resume web
run 2000
image web:2 good
run 4000
resume web
run 2000
show
image web:3 missing
service web web:3 replicas=2 monitor=1000 action=rollback
apply
run 2000
service web web:4 replicas=2 monitor=1000
apply
run 5000
show
